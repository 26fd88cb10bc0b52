"""Raw answers of the venues, kept as they were received.

One file holds the answers of one batch as JSON lines, ``{"request": …, "body": <as received>}``.
Line breaks inside a body, which JSON allows only as whitespace, become blanks; nothing else is
touched. A file is named by the sha256 of its lines, so the same answers are the same file, which
is written once (temporary name, fsync, rename) and never again.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
from pyarrow.fs import FileSystem, FileType, LocalFileSystem

from market_data.errors import RawStoreError


@dataclass(frozen=True, slots=True)
class RawAnswer:
    """A body as received and what was asked for it."""

    request: dict[str, Any]
    body: bytes


@dataclass(frozen=True, slots=True)
class RawFile:
    """A stored file.

    Attributes:
        sha256: hex digest of the lines before compression, also the file's name.
        source: "polymarket/gamma/markets" and the like.
        path: relative to the store's folder.
        records: lines; ``size``: bytes before compression.
        is_new: False when the very same file was already there.
    """

    sha256: str
    source: str
    path: str
    records: int
    size: int
    is_new: bool


class RawStore:
    """A folder, or the prefix of an object store, of immutable, content-named files."""

    def __init__(self, root: str | Path, *, compress: bool = True) -> None:
        """Name the place; nothing is opened or made yet."""
        self._root = str(root).rstrip("/")
        self._compress = compress

    def put(self, source: str, answers: Sequence[RawAnswer]) -> RawFile:
        """Store a batch of answers; a batch that is already stored is not written again."""
        lines = b"".join(_line(answer) for answer in answers)
        digest = hashlib.sha256(lines).hexdigest()
        suffix = ".jsonl.gz" if self._compress else ".jsonl"
        relative = f"{source}/{digest[:2]}/{digest}{suffix}"
        files, path = self._place(relative)
        is_new = files.get_file_info(path).type is FileType.NotFound
        if is_new:
            payload = gzip.compress(lines, compresslevel=1, mtime=0) if self._compress else lines
            _write_once(files, path, payload)
        return RawFile(digest, source, relative, len(answers), len(lines), is_new)

    def read(self, file: RawFile) -> Iterator[RawAnswer]:
        """The answers of a stored file, in order.

        Raises:
            RawStoreError: the file is missing, damaged or not what its name says.
        """
        files, path = self._place(file.path)
        try:
            with files.open_input_file(path) as stored:
                data = stored.read()
            lines = gzip.decompress(data) if path.endswith(".gz") else data
        except (OSError, EOFError) as error:
            raise RawStoreError(f"{path}: {error}") from None
        if hashlib.sha256(lines).hexdigest() != file.sha256:
            raise RawStoreError(f"{path}: content does not match its name")
        for line in lines.splitlines():
            head, _, body = line.partition(b',"body":')
            yield RawAnswer(orjson.loads(head + b"}")["request"], body[:-1])

    def remove(self, relative: str) -> bool:
        """Remove a file by its path in the store; whether it was there."""
        files, path = self._place(relative)
        if files.get_file_info(path).type is FileType.NotFound:
            return False
        files.delete_file(path)
        return True

    def _place(self, relative: str) -> tuple[FileSystem, str]:
        if "://" not in self._root:
            return LocalFileSystem(), f"{self._root}/{relative}"
        files, root = FileSystem.from_uri(self._root)
        return files, f"{root}/{relative}"


def _line(answer: RawAnswer) -> bytes:
    request = orjson.dumps({"request": answer.request}, option=orjson.OPT_SORT_KEYS)
    body = answer.body.replace(b"\r", b" ").replace(b"\n", b" ")
    return request[:-1] + b',"body":' + body + b"}\n"


def _write_once(files: FileSystem, path: str, payload: bytes) -> None:
    """Whole or not at all: an object store does so by itself, a folder by a rename."""
    if not isinstance(files, LocalFileSystem):
        with files.open_output_stream(path, compression=None) as target:
            target.write(payload)
        return
    place = Path(path)
    place.parent.mkdir(parents=True, exist_ok=True)
    handle, part = tempfile.mkstemp(dir=place.parent, prefix=".part-")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(payload)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, place)
    except OSError:
        Path(part).unlink(missing_ok=True)
        raise
