"""The replay server answers as the venues do."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import orjson
import pytest

from market_data.replay.archive import Archive, write_archive
from market_data.replay.server import RunningReplay


@pytest.fixture
def venue(replay: RunningReplay) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=replay.base_url) as client:
        yield client


def test_markets_are_paged_filtered_and_ordered(venue: httpx.Client, archive: Archive) -> None:
    closed = venue.get("/gamma/markets", params={"closed": "true", "limit": 500}).json()
    still_open = venue.get("/gamma/markets", params={"closed": "false", "limit": 500}).json()
    assert len(closed) + len(still_open) == len(archive.markets)
    assert all(m["closed"] for m in closed)
    first = venue.get("/gamma/markets", params={"limit": 3}).json()
    rest = venue.get("/gamma/markets", params={"limit": 3, "offset": 3}).json()
    assert [m["id"] for m in first + rest] == [m["id"] for m in archive.markets[:6]]
    falling = venue.get(
        "/gamma/markets", params={"order": "volumeNum", "ascending": "false", "limit": 500}
    ).json()
    volumes = [m["volumeNum"] for m in falling]
    assert volumes == sorted(volumes, reverse=True)
    one = venue.get("/gamma/markets", params={"id": archive.markets[4]["id"]}).json()
    assert one == [archive.markets[4]]


def test_records_have_the_shape_of_the_real_ones(venue: httpx.Client) -> None:
    market = venue.get("/gamma/markets", params={"limit": 1}).json()[0]
    for name in ("outcomes", "outcomePrices", "clobTokenIds", "umaResolutionStatuses"):
        assert isinstance(market[name], str)
        assert isinstance(orjson.loads(market[name]), list)
    assert isinstance(market["volume"], str)
    assert isinstance(market["volumeNum"], float)
    assert "event_id" not in market
    assert market["events"][0]["id"]


def test_events_carry_their_markets(venue: httpx.Client, archive: Archive) -> None:
    events = venue.get("/gamma/events", params={"limit": 500}).json()
    assert sum(len(event["markets"]) for event in events) == len(archive.markets)


def test_cursors_reach_every_market_once(venue: httpx.Client, archive: Archive) -> None:
    found: list[str] = []
    cursor = ""
    while True:
        body = venue.get(
            "/gamma/markets/keyset", params={"limit": 7, "after_cursor": cursor}
        ).json()
        found += [m["id"] for m in body["markets"]]
        cursor = body["next_cursor"]
        if not cursor:
            break
    assert found == [m["id"] for m in archive.markets]


def test_both_tokens_have_a_history_and_bounds_are_kept(
    venue: httpx.Client, archive: Archive
) -> None:
    market = next(m for m in archive.markets if len(orjson.loads(m["outcomes"])) == 2)
    yes, no = orjson.loads(market["clobTokenIds"])
    ours = venue.get("/clob/prices-history", params={"market": yes}).json()["history"]
    theirs = venue.get("/clob/prices-history", params={"market": no}).json()["history"]
    assert [a["t"] for a in ours] == [b["t"] for b in theirs]
    assert all(abs(a["p"] + b["p"] - 1) < 1e-9 for a, b in zip(ours, theirs, strict=True))
    bounds = {"market": yes, "startTs": ours[3]["t"], "endTs": ours[7]["t"]}
    assert venue.get("/clob/prices-history", params=bounds).json()["history"] == ours[3:8]
    unknown = venue.get("/clob/prices-history", params={"market": "1"})
    assert unknown.json() == {"history": []}
    assert venue.get("/clob/prices-history").status_code == 400


def test_only_open_markets_have_a_book(venue: httpx.Client, archive: Archive) -> None:
    for market in archive.markets[:40]:
        token = orjson.loads(market["clobTokenIds"])[0]
        answer = venue.get("/clob/book", params={"token_id": token})
        assert answer.status_code == (404 if market["closed"] else 200)
        if not market["closed"]:
            assert answer.json()["asset_id"] == token


def test_the_subgraph_pages_by_id(venue: httpx.Client, archive: Archive) -> None:
    query = (
        "query S($n: Int!, $at: String!) { splits(first: $n, orderBy: id, orderDirection: asc, "
        "where: {id_gt: $at}) { id timestamp condition amount } }"
    )
    found: list[dict[str, str]] = []
    at = ""
    while True:
        payload = {"query": query, "variables": {"n": 50, "at": at}}
        rows = venue.post("/subgraph/activity", json=payload).json()["data"]["splits"]
        found += rows
        if not rows:
            break
        at = rows[-1]["id"]
    assert found == archive.splits


def test_subgraph_filters_and_errors(venue: httpx.Client, archive: Archive) -> None:
    middle = sorted(int(s["timestamp"]) for s in archive.splits)[len(archive.splits) // 2]
    text = (
        f'{{ splits(first: 1000, orderBy: timestamp, where: {{timestamp_gte: "{middle}"}}) '
        "{ timestamp } }"
    )
    rows = venue.post("/subgraph/activity", json={"query": text}).json()["data"]["splits"]
    times = [int(row["timestamp"]) for row in rows]
    assert times == sorted(
        int(s["timestamp"]) for s in archive.splits if int(s["timestamp"]) >= middle
    )
    for bad in ("{ nothing { id } }", "{", "{ splits(first: 5000) { id } }", "splits ! {"):
        assert "errors" in venue.post("/subgraph/activity", json={"query": bad}).json()


def test_the_process_reports_its_port_and_ends_on_sigterm(archive: Archive, tmp_path: Path) -> None:
    write_archive(archive, tmp_path / "archive")
    port_file = tmp_path / "port"
    command = [sys.executable, "-m", "market_data.replay.server", "--port", "0"]
    command += ["--archive", str(tmp_path / "archive"), "--port-file", str(port_file)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 30
        while not port_file.exists():
            assert process.poll() is None
            assert time.monotonic() < deadline
        answer = httpx.get(f"http://127.0.0.1:{port_file.read_text().strip()}/health")
        assert answer.json()["markets"] == len(archive.markets)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=15) == 0
    finally:
        process.kill()
        process.wait()


def test_a_bad_archive_ends_the_process_with_its_reason(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "market_data.replay.server", "--archive", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode == 2
    assert "manifest.json: missing" in done.stderr
