"""The comments of the contract's ``.proto`` files by the full name of what they stand before.

Descriptors in Python carry no comments, and the compiler that does lives in an environment of its
own; the files keep one form (a comment on the lines before each declaration), so that they are read
here directly. A test compares with the compiler's own reading.
"""

from __future__ import annotations

import re
from pathlib import Path

PROTOS = Path(__file__).resolve().parents[1] / "protos"

_STRING = re.compile(r'"(?:[^"\\]|\\.)*"')
_SCOPE = re.compile(r"(message|enum|service|oneof) (\w+) \{")
_METHOD = re.compile(r"rpc (\w+)\(")
_FIELD = re.compile(r"(?:(?:optional|repeated) )?[\w.]+(?:<[\w., ]+>)? (\w+) = \d+")
_VALUE = re.compile(r"([A-Z][A-Z0-9_]*) = \d+")


def read_comments(folder: Path = PROTOS) -> dict[str, str]:
    """Comments by full name: ``marketcal.v1.ForecastRequest.values``."""
    found: dict[str, str] = {}
    for path in sorted(folder.glob("marketcal/v1/*.proto")):
        _read("marketcal.v1", path.read_text(), found)
    return found


def _read(package: str, text: str, found: dict[str, str]) -> None:
    scopes: list[tuple[str, int]] = [(package, 0)]
    depth = 0
    pending: list[str] = []
    for raw in text.splitlines():
        line = raw.strip()
        if line.startswith("//"):
            pending.append(line[2:].strip())
            continue
        bare = _STRING.sub('""', line)
        scope, inner = scopes[-1]
        scoped = _SCOPE.match(bare)
        declared = scoped or (_declared(bare) if depth == inner else None)
        if declared is not None and depth == inner:
            name = scoped[2] if scoped else declared[1]
            if pending:
                found[f"{scope}.{name}"] = " ".join(pending)
            if scoped:  # the fields of a oneof belong to its message
                scopes.append((scope if scoped[1] == "oneof" else f"{scope}.{name}", depth + 1))
        pending = []
        depth += bare.count("{") - bare.count("}")
        while len(scopes) > 1 and depth < scopes[-1][1]:
            scopes.pop()


def _declared(line: str) -> re.Match[str] | None:
    return _METHOD.match(line) or _VALUE.match(line) or _FIELD.match(line)
