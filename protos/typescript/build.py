"""Builds the TypeScript client: ``python protos/typescript/build.py FOLDER``.

Copies the sources into FOLDER, installs what they need with npm, generates the contract from its
descriptor set, compiles, and packs ``marketcal-<version>.tgz``. What npm installs stays there, so
that a second build takes seconds.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
COMPILER = ROOT / ".venv-proto" / "bin" / "python"
NPM_FAILED = 75
"""Exit status where npm does not get what it must install; another time it may."""
_SECONDS = 300


def build(target: Path) -> None:
    """Makes the package in ``target``.

    Raises:
        subprocess.CalledProcessError: a step failed; its output has been shown.
        SystemExit: npm cannot install what is needed.
    """
    target.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(target / "src", ignore_errors=True)
    shutil.copytree(HERE / "src", target / "src")
    changed = not _same(HERE / "package.json", target / "package.json")
    for name in ("package.json", "tsconfig.json", "buf.gen.yaml", "README.md"):
        shutil.copy(HERE / name, target / name)
    image = target / "contract.binpb"
    _run([str(COMPILER), "protos/generate.py", "--image", str(image), "--with-details"], ROOT)
    if changed or not (target / "node_modules").is_dir():
        _install(target)
    _run(["node_modules/.bin/buf", "generate", image.name], target)
    _run(["node_modules/.bin/tsc"], target)
    _run(["npm", "pack", "--silent"], target)


def _install(target: Path) -> None:
    try:
        _run(["npm", "install", "--no-audit", "--no-fund", "--no-package-lock", "--silent"], target)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        print(f"npm cannot install what the client needs: {error}", file=sys.stderr)
        raise SystemExit(NPM_FAILED) from None


def _same(one: Path, other: Path) -> bool:
    return other.exists() and one.read_bytes() == other.read_bytes()


def _run(command: list[str], folder: Path) -> None:
    subprocess.run(command, cwd=folder, check=True, timeout=_SECONDS)


if __name__ == "__main__":
    build(Path(sys.argv[1]).resolve())
