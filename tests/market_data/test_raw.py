"""Raw files are named by their content and never rewritten."""

from __future__ import annotations

from pathlib import Path

import pytest

from market_data.errors import RawStoreError
from market_data.raw import RawAnswer, RawStore

ANSWERS = [RawAnswer({"page": 1}, b'{"a": [1,\n 2]}'), RawAnswer({"page": 2}, b"[]")]


@pytest.mark.parametrize("compress", [True, False])
def test_what_was_put_is_read_back(tmp_path: Path, compress: bool) -> None:
    store = RawStore(tmp_path, compress=compress)
    file = store.put("venue/markets", ANSWERS)
    assert [a.body for a in store.read(file)] == [b'{"a": [1,  2]}', b"[]"]
    assert [a.request for a in store.read(file)] == [{"page": 1}, {"page": 2}]


def test_the_same_answers_are_the_same_untouched_file(tmp_path: Path) -> None:
    store = RawStore(tmp_path)
    first = store.put("venue", ANSWERS)
    stat = (tmp_path / first.path).stat()
    again = store.put("venue", ANSWERS)
    assert (first.is_new, again.is_new) == (True, False)
    assert first.path == again.path
    assert (tmp_path / first.path).stat().st_mtime_ns == stat.st_mtime_ns
    assert not list(tmp_path.rglob(".part-*"))


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    store = RawStore(tmp_path, compress=False)
    file = store.put("venue", ANSWERS)
    (tmp_path / file.path).write_bytes(b"other")
    with pytest.raises(RawStoreError, match="does not match its name"):
        list(store.read(file))
