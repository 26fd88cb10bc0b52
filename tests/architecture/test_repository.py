"""The repository carries no trace of a machine, and its lock and settings are whole."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from gateway.settings import fields

MACHINE = re.compile(r"(?<![\w.])/(?:root|home|Users|work)/\w")
REGISTRIES = re.compile(
    r"pypi\.org|pythonhosted\.org|registry\.npmjs|registry\.yarnpkg|download\.pytorch"
    r"|(?<!no-emit-)index-url[ =]",
)
TEXT = {".py", ".md", ".toml", ".yaml", ".yml", ".txt", ".lock", ".proto", ".json", ".sh", ""}
FIELDS = [(path[0], path[-1], info) for path, info in fields()]


@pytest.mark.parametrize("pattern", [MACHINE, REGISTRIES], ids=["paths", "registries"])
def test_no_tracked_file_names_a_machine_or_a_registry(
    pattern: re.Pattern[str], tracked: tuple[Path, ...], root: Path
) -> None:
    found = {
        f"{path.relative_to(root)}: {match[0]}"
        for path in tracked
        if path.suffix in TEXT and path != Path(__file__)
        for match in pattern.finditer(path.read_text(errors="replace"))
    }
    assert found == set()


def test_every_locked_requirement_is_exact_and_has_a_hash(root: Path) -> None:
    text = (root / "requirements.lock").read_text().replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    assert lines
    for line in lines:
        assert re.match(r"[A-Za-z0-9._\[\],-]+==\S+(?: ;[^-]+)? +--hash=sha256:[0-9a-f]{64}", line)
    assert "://" not in text


@pytest.mark.parametrize(("section", "field", "info"), FIELDS, ids=lambda part: str(part)[:20])
def test_a_setting_says_what_it_means(section: str, field: str, info: object) -> None:
    meaning = getattr(info, "description", None) or ""
    assert meaning.endswith("."), f"{section}.{field} has no sentence"


def test_every_setting_is_read_by_code(code: dict[str, ast.Module]) -> None:
    read = {
        node.attr
        for name, tree in code.items()
        if not name.endswith("settings.py")
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and re.search(
            r"settings|config|gateway|control|forecast|flows|upstream|identity|telemetry|stream",
            ast.unparse(node.value),
        )
    }
    assert [f"{section}.{field}" for section, field, _ in FIELDS if field not in read] == []
