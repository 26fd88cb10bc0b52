"""What the tests of the architecture share: the tracked files, parsed."""

from __future__ import annotations

import ast
import subprocess
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def root() -> Path:
    """The folder of the repository."""
    return ROOT


@cache
def tracked_files() -> tuple[Path, ...]:
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if listed.returncode:
        pytest.skip("this is no git checkout; the rules are about tracked files")
    return tuple(
        ROOT / name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()
    )


@pytest.fixture(scope="session")
def tracked() -> tuple[Path, ...]:
    """Every tracked file that is there."""
    return tracked_files()


@pytest.fixture(scope="session")
def modules() -> dict[str, ast.Module]:
    """Every tracked Python module that people write, by its path."""
    return {
        str(path.relative_to(ROOT)): ast.parse(path.read_text())
        for path in tracked_files()
        if path.suffix == ".py" and "_pb2" not in path.name
    }


@pytest.fixture(scope="session")
def code(modules: dict[str, ast.Module]) -> dict[str, ast.Module]:
    """The modules of the product: no tests, no benchmarks."""
    return {
        name: tree
        for name, tree in modules.items()
        if not name.startswith(("tests/", "benchmarks/", "docs/"))
    }
