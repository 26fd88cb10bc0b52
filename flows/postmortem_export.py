"""Post-mortems as files: JSON, PNG and HTML in one folder, under names that are safe for any id.

A name is the id's plain characters, for people, and the sha256 of the whole id, for the file
system: different ids have different names on every disk, whatever its view of case, length, dots,
separators or reserved names, and no id leads out of the folder.
"""

from __future__ import annotations

import hashlib
import json
import re
from html import escape
from pathlib import Path
from typing import Any

import polars as pl

_PLAIN = re.compile(r"[^a-z0-9]+")
_LONGEST = 40
_PAGE = """\
<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><title>{title}</title></head>
<body>
<h1>{title}</h1>
<p>{summary}</p>
{picture}<h2>Lessons</h2>
<ul>
{lessons}</ul>
</body>
</html>
"""


def file_name(market_id: str) -> str:
    """A name without suffix for a market's files, at most 105 characters of a-z, 0-9 and "-".

    >>> file_name("polymarket:1")[:21]
    'polymarket-1-f69febd5'
    """
    plain = _PLAIN.sub("-", market_id.lower()).strip("-")[:_LONGEST].strip("-")
    digest = hashlib.sha256(market_id.encode("utf-8", "surrogatepass")).hexdigest()
    return f"{plain}-{digest}" if plain else digest


def write_postmortems(rows: pl.DataFrame, folder: Path) -> int:
    """Writes the files of rows of ``postmortem`` and counts the markets.

    Raises:
        OSError: the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for row in rows.iter_rows(named=True):
        name = file_name(row["market_id"])
        if row["picture"] is not None:
            write_whole(folder / f"{name}.png", row["picture"])
        write_whole(folder / f"{name}.json", as_json(row))
        write_whole(folder / f"{name}.html", as_html(row, name))
    return rows.height


def as_json(row: dict[str, Any]) -> bytes:
    """A row without its picture, with times in ISO 8601."""
    told = {name: value for name, value in row.items() if name not in _LEFT_OUT}
    for name in ("cutoffs", "moves", "question_risk", "alerts"):
        told[name] = json.loads(row[name]) if row[name] is not None else None
    told["resolved_at"] = row["resolved_at"].isoformat()
    told["path_ts"] = [at.isoformat() for at in row["path_ts"]]
    return (json.dumps(told, sort_keys=True, indent=1) + "\n").encode()


def as_html(row: dict[str, Any], name: str) -> bytes:
    """A page beside the picture; whatever a venue wrote is escaped."""
    image = f'<p><img src="{name}.png" alt="Price of YES"></p>\n' if row["picture"] else ""
    page = _PAGE.format(
        title=escape(row["question"] or row["market_id"]),
        summary=escape(row["summary"]),
        picture=image,
        lessons="".join(f"<li>{escape(lesson)}</li>\n" for lesson in row["lessons"]),
    )
    return page.encode("utf-8", "replace")


def write_whole(path: Path, content: bytes) -> None:
    """Puts a file in place in one step: a reader sees the old one or the new one."""
    part = path.with_suffix(f"{path.suffix}.part")
    part.write_bytes(content)
    part.replace(path)


_LEFT_OUT = {"picture", "schema_version", "dt"}
