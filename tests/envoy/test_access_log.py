"""The access log names what was asked: by REST, by gRPC, and where nothing of the kind is there."""

from __future__ import annotations

import json
from typing import Any

import pytest

from marketcal import Client, errors

FORGED = {"x-envoy-original-path": "/v1/forged", "x-envoy-original-method": "FORGED"}


@pytest.fixture
def find_line(front: Any, until: Any) -> Any:
    """The line of the access log with a request id: ``find_line("mine")``."""

    def lines(request_id: str) -> list[dict[str, Any]]:
        found = [json.loads(one) for one in front.log.read_text().splitlines() if request_id in one]
        return [one for one in found if one["request_id"] == request_id]

    def find(request_id: str) -> dict[str, Any]:
        until(lambda: bool(lines(request_id)))
        (line,) = lines(request_id)
        return line

    return find


@pytest.mark.parametrize(
    ("path", "status"),
    [("/v1/markets?page_size=3&query=hidden", 200), ("/v1/nothing?query=hidden", 404),
     ("/v1/markets/logged-missing", 404)],
)  # fmt: skip
def test_a_rest_call_is_logged_by_its_own_path_and_method(
    path: str, status: int, front: Any, as_viewer: Any, find_line: Any
) -> None:
    name = f"log-{status}-{len(path)}-0000000000"
    answer = front.http.get(path, headers=as_viewer | FORGED | {"x-request-id": name})
    assert answer.status_code == status
    line = find_line(name)
    assert (line["method"], line["path"]) == ("GET", path.partition("?")[0])
    assert line["status"] == status
    assert "hidden" not in str(line)


def test_a_grpc_call_is_logged_by_its_method(front: Any, as_viewer: Any, until: Any) -> None:
    def logged() -> list[dict[str, Any]]:
        lines = [json.loads(one) for one in front.log.read_text().splitlines()]
        return [one for one in lines if one["path"] == "/marketcal.v1.MarketService/GetMarket"]

    before = [one for one in logged() if one["grpc_status"] == "NotFound"]
    with (
        Client(f"127.0.0.1:{front.port}", key=as_viewer["x-api-key"]) as client,
        pytest.raises(errors.MarketNotFound),
    ):
        client.get_market("logged-by-grpc")
    until(lambda: len([one for one in logged() if one["grpc_status"] == "NotFound"]) > len(before))
    line = logged()[-1]
    assert (line["method"], line["status"]) == ("POST", 200)
