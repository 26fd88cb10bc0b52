"""REST through Envoy: every annotated route answers, and refusals are what gRPC callers see."""

from __future__ import annotations

import json
import subprocess
import urllib.parse
from contextlib import ExitStack
from typing import Any

import httpx
import pytest
from google.api import annotations_pb2

from gateway.contract import services

VALUES = [0.4 + 0.001 * (i % 60) for i in range(96)]
FORECAST = {"marketId": "polymarket:1", "values": VALUES, "model": {"name": "ewma"}}
OLD_FORECAST = {"market_id": "polymarket:1", "y": VALUES, "model": {"model_name": "ewma"}}
MODELS = [{"name": "ewma"}, {"name": "no-such"}]
BODIES: dict[str, Any] = {
    "/v1/forecasts": FORECAST,
    "/v1/forecasts:batch": {"items": [FORECAST, {"marketId": "m"}]},
    "/v1/markets/{market_id}:compare": {"request": FORECAST, "models": MODELS},
    "/v1/alerts/{alert_id}:acknowledge": {},
    "/tsfm/forecast": OLD_FORECAST,
    "/markets/{id}/comparison": {"forecast": OLD_FORECAST},
}


def routes() -> list[Any]:
    """Name, verb and path of every annotated method."""
    found = []
    for service in services():
        for method in service.methods:
            rule = method.GetOptions().Extensions[annotations_pb2.http]
            verb = rule.WhichOneof("pattern")
            if verb:
                name = f"{verb.upper()} {getattr(rule, verb)}"
                found.append(pytest.param(method.name, verb.upper(), getattr(rule, verb), id=name))
    return found


def filled(path: str, market_id: str, postmortem_id: str, alert_id: str) -> tuple[str, Any]:
    """A path with ids in it, and the body that goes with it."""
    whose = postmortem_id if "postmortem" in path else market_id
    body = BODIES.get(path)
    if path == "/markets/{id}/comparison":
        body = {"forecast": OLD_FORECAST | {"market_id": whose}}
    at = path
    for field, value in {"{market_id}": whose, "{id}": whose, "{name}": "ewma",
                         "{alert_id}": alert_id}.items():  # fmt: skip
        at = at.replace(field, value)
    return at, body


@pytest.fixture(scope="module")
def postmortem_id(front: Any, as_viewer: Any) -> str:
    """A market with a post-mortem."""
    listed = front.http.get("/v1/postmortems", headers=as_viewer).json()["postmortems"]
    return str(listed[0]["marketId"])


def reason(answer: httpx.Response) -> str:
    """The published reason of a refusal."""
    for detail in answer.json()["details"]:
        if detail["@type"].endswith("google.rpc.ErrorInfo"):
            return str(detail["reason"]).removeprefix("ERROR_REASON_")
    return ""


def fields(answer: httpx.Response) -> list[str]:
    """The fields that a refusal names."""
    bad = [one for one in answer.json()["details"] if one["@type"].endswith("BadRequest")]
    one = bad[0] if bad else {}
    wrong = one.get("fieldViolations") or one.get("field_violations") or []
    return [violation["field"] for violation in wrong]


@pytest.mark.parametrize(("name", "verb", "path"), routes())
def test_a_route_answers_with_a_key_and_refuses_without(
    name: str, verb: str, path: str, front: Any, as_admin: Any, market_id: str, postmortem_id: str,
    alert_id: str,
) -> None:  # fmt: skip
    at, body = filled(path, market_id, postmortem_id, alert_id)
    answer = front.http.request(verb, at, json=body, headers=as_admin)
    assert answer.status_code == 200, answer.text
    assert answer.json()
    assert answer.headers["content-type"] == "application/json"

    stranger = front.http.request(verb, at, json=body)
    assert (stranger.status_code, reason(stranger)) == (401, "CREDENTIAL_MISSING")
    assert stranger.headers["www-authenticate"] == 'Bearer realm="marketcal"'
    assert stranger.json()["code"] == 16


def test_alerts_are_listed_and_acknowledged(
    front: Any, as_viewer: Any, as_admin: Any, gateway: Any, raise_alerts: Any
) -> None:
    [alert_id] = raise_alerts(gateway, market_id="rest:1")
    query = "/v1/alerts?marketId=rest:1&minSeverity=ALERT_SEVERITY_MED&since=2026-01-01T00:00:00Z"
    [alert] = front.http.get(query, headers=as_viewer).json()["alerts"]
    assert (alert["alertId"], alert["severity"]) == (alert_id, "ALERT_SEVERITY_MED")
    assert alert["evidence"] == [{"name": "price", "value": 0.7, "threshold": 0.55}]

    at = f"/v1/alerts/{alert_id}:acknowledge"
    answer = front.http.post(at, json={}, headers=as_viewer)
    assert (answer.status_code, reason(answer)) == (403, "SCOPE_MISSING")
    seen = front.http.post(at, json={}, headers=as_admin).json()["alert"]
    old = front.http.get("/alerts?limit=500", headers=as_viewer).json()
    [row] = [one for one in old["items"] if one["alert_id"] == alert_id]
    assert row["acknowledged_by"] == seen["acknowledgedBy"]
    assert row["severity"] == "MED"
    assert (
        front.http.post("/v1/alerts/none:acknowledge", json={}, headers=as_admin).status_code == 404
    )
    assert front.http.get("/alerts?since=soon", headers=as_viewer).status_code == 400


def test_v1_speaks_camel_case_and_the_old_paths_their_old_names(
    front: Any, as_forecaster: Any
) -> None:
    v1 = front.http.post("/v1/forecasts", json=FORECAST, headers=as_forecaster).json()
    old = front.http.post("/tsfm/forecast", json=OLD_FORECAST, headers=as_forecaster).json()
    assert v1["meta"]["fallbackUsed"] is False
    assert old["meta"]["fallback_used"] is False
    paths = {repr(path["level"]): path["values"] for path in v1["quantilePaths"]}
    assert {level: path["values"] for level, path in old["yhat_q"].items()} == paths
    assert "conformal_last_step" in old


def test_the_old_forecast_answers_curl(front: Any, as_forecaster: Any, curl: str) -> None:
    done = subprocess.run(
        [curl, "--silent", "--show-error", "--max-time", "20", "--json", json.dumps(OLD_FORECAST),
         "--header", f"authorization: {as_forecaster['authorization']}",
         f"http://127.0.0.1:{front.port}/tsfm/forecast"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert set(json.loads(done.stdout)["yhat_q"]) == {"0.1", "0.5", "0.9"}


def test_a_viewer_may_not_forecast(front: Any, as_viewer: Any) -> None:
    answer = front.http.post("/v1/forecasts", json=FORECAST, headers=as_viewer)
    assert (answer.status_code, reason(answer)) == (403, "SCOPE_MISSING")


@pytest.mark.parametrize("path", ["/v1/markets/mkt-1", "/markets/mkt-1", "/postmortem/mkt-1"])
def test_an_unknown_market_is_not_found(path: str, front: Any, as_viewer: Any) -> None:
    answer = front.http.get(path, headers=as_viewer)
    assert (answer.status_code, reason(answer)) == (404, "MARKET_NOT_FOUND")


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("/v1/forecasts", FORECAST | {"horizonSteps": 5000}, "horizon_steps"),
        ("/v1/forecasts", FORECAST | {"values": [0.5, 1.5]}, "values[1]"),
        ("/tsfm/forecast", OLD_FORECAST | {"y": [0.5, 1.5]}, "y[1]"),
        ("/tsfm/forecast", OLD_FORECAST | {"as_of_ts": "now"}, "as_of_ts"),
    ],
)
def test_a_bad_field_is_named(
    path: str, body: Any, field: str, front: Any, as_forecaster: Any
) -> None:
    answer = front.http.post(path, json=body, headers=as_forecaster)
    assert (answer.status_code, reason(answer)) == (400, "INVALID_FIELD")
    assert fields(answer) == [field]


@pytest.mark.parametrize(
    "path",
    ["/v1/markets?platfrom=x", "/v1/markets?status=OPEN", "/v1/markets?pageSize=many",
     "/markets?window=1"],
)  # fmt: skip
def test_a_bad_parameter_is_refused_by_name(path: str, front: Any, as_viewer: Any) -> None:
    answer = front.http.get(path, headers=as_viewer)
    assert (answer.status_code, reason(answer)) == (400, "INVALID_FIELD")
    name = path.partition("?")[2].partition("=")[0]
    assert name.lower() in answer.json()["message"].lower().replace("_", "")


def test_a_filter_by_platform_that_matches_nothing_is_an_empty_page(
    front: Any, as_viewer: Any
) -> None:
    for path, name in (("/v1/markets", "markets"), ("/markets", "items")):
        answer = front.http.get(path, params={"platform": "a b+c&d"}, headers=as_viewer)
        assert (answer.status_code, answer.json()[name]) == (200, [])


@pytest.mark.parametrize("space", ["+", "%20"])
def test_a_space_in_a_parameter_arrives(space: str, front: Any, as_viewer: Any) -> None:
    answer = front.http.get(f"/v1/markets?query=will{space}team&pageSize=1", headers=as_viewer)
    assert "will team" in answer.json()["markets"][0]["question"].lower()


def test_a_used_up_rate_limit_says_when_to_come_back(front: Any, gateway: Any) -> None:
    key = {"x-api-key": gateway.key("viewer", rate_per_minute=1, burst=1)}
    assert front.http.get("/v1/markets", headers=key).status_code == 200
    answer = front.http.get("/v1/markets", headers=key)
    assert (answer.status_code, reason(answer)) == (429, "RATE_LIMITED")
    assert 1 <= int(answer.headers["retry-after"]) <= 60
    assert answer.headers["ratelimit-policy"] == '"default";q=1;w=60'
    assert answer.headers["ratelimit"].startswith('"default";r=0')


@pytest.mark.parametrize("path", ["/", "/v1", "/v1/nothing", "/markets/a/b/c", "/admin", "/stats"])
def test_a_path_that_is_not_in_the_contract_is_not_there(
    path: str, front: Any, as_admin: Any
) -> None:
    answer = front.http.get(path, headers=as_admin)
    assert answer.status_code == 404
    assert answer.json() == {"code": 5, "message": "there is no such path", "details": []}


def test_a_body_that_is_no_json_is_refused(front: Any, as_forecaster: Any) -> None:
    answer = front.http.post("/v1/forecasts", content=b'{"values": [', headers=as_forecaster)
    assert (answer.status_code, reason(answer)) == (400, "INVALID_FIELD")


def test_an_oversized_body_is_refused(front: Any, as_forecaster: Any) -> None:
    above_the_gateway = json.dumps({"marketId": "m" * (9 << 20), "values": [0.5, 0.5]}).encode()
    answer = front.http.post("/v1/forecasts", content=above_the_gateway, headers=as_forecaster)
    assert (answer.status_code, reason(answer)) == (429, "TOO_LARGE")
    assert "retry-after" not in answer.headers

    above_envoy = b'{"marketId": "' + b"m" * (26 << 20) + b'"}'
    answer = front.http.post("/v1/forecasts", content=above_envoy, headers=as_forecaster)
    assert (answer.status_code, reason(answer)) == (413, "TOO_LARGE")


def test_the_largest_series_of_a_call_passes(front: Any, as_forecaster: Any) -> None:
    values = [0.123456789012345 + 1e-6 * i for i in range(20_000)]
    items = [FORECAST | {"values": values}] * 20
    answer = front.http.post("/v1/forecasts:batch", json={"items": items}, headers=as_forecaster)
    assert answer.status_code == 200
    assert len(answer.json()["results"]) == 20


@pytest.mark.parametrize(
    "name", ["a:b", "a/b", "a:compare", "a b+c", "é☃", "a%2Fb", "'; --", "a\\b", "..."]
)
@pytest.mark.parametrize("path", ["/v1/markets/{}", "/markets/{}", "/v1/markets/{}/metrics"])
def test_an_id_arrives_as_it_was_sent(name: str, path: str, front: Any, as_viewer: Any) -> None:
    at = path.format(urllib.parse.quote(name, safe=""))
    answer = front.http.get(at, headers=as_viewer)
    assert answer.status_code == 404
    details = answer.json()["details"]
    named = next(one for one in details if one["@type"].endswith("ResourceInfo"))
    assert (named.get("resourceName") or named.get("resource_name")) == name


def test_a_request_id_comes_back(front: Any, as_viewer: Any) -> None:
    sent = front.http.get("/v1/markets/none", headers=as_viewer | {"x-request-id": "mine-7"})
    ids = [one["requestId"] for one in sent.json()["details"] if "requestId" in one]
    assert (sent.headers["x-request-id"], ids) == ("mine-7", ["mine-7"])
    made = front.http.get("/v1/markets", headers=as_viewer)
    assert len(made.headers["x-request-id"]) == 36


def test_no_origin_is_let_in_by_default(front: Any, as_viewer: Any) -> None:
    origin = {"origin": "https://example.com", "access-control-request-method": "GET"}
    for answer in (front.http.options("/v1/markets", headers=origin),
                   front.http.get("/v1/markets", headers=as_viewer | origin)):  # fmt: skip
        assert not [name for name in answer.headers if name.startswith("access-control-")]


def test_headers_beyond_the_limit_are_refused(front: Any, as_viewer: Any) -> None:
    answer = front.http.get("/v1/markets", headers=as_viewer | {"x-long": "x" * 20_000})
    assert answer.status_code == 431


@pytest.mark.parametrize(
    ("name", "value", "status"),
    [
        (b"45*bn7l", b"v", 200),
        (b"x-note", "é".encode(), 200),
        (b"thing-bin", b"no base64!", 200),
        (b"grpc-timeout", b"soon", 200),
        (b"grpc-encoding", b"gzip", 200),
        (b"x-forwarded-for", b"10.0.0.1", 200),
        (b"x-request-id", "é".encode(), 400),
        (b"authorization", b"Bearer \xff", 400),
    ],
)
def test_a_header_that_grpc_does_not_know_breaks_nothing(
    name: bytes, value: bytes, status: int, front: Any, as_viewer: Any
) -> None:
    headers = [(one.encode(), two.encode()) for one, two in as_viewer.items()]
    answer = front.http.get("/v1/markets", headers=[*headers, (name, value)])
    assert answer.status_code == status
    if status != 200:
        assert reason(answer) == "INVALID_FIELD"


def test_the_access_log_holds_no_key_and_no_query(front: Any, as_viewer: Any, until: Any) -> None:
    path = "/v1/markets/logged-once"
    front.http.get(path, headers=as_viewer)
    front.http.get("/v1/markets?query=hidden-words", headers=as_viewer)
    until(lambda: path in front.log.read_text())
    text = front.log.read_text()
    assert as_viewer["x-api-key"] not in text
    assert as_viewer["x-api-key"].split("_")[2] not in text
    assert "hidden-words" not in text
    line = next(one for one in text.splitlines() if path in one)
    assert json.loads(line)["status"] == 404
    assert json.loads(line)["client"] == "127.0.0.1"


def test_a_gateway_that_is_gone_is_unavailable(
    start_envoy: Any, serve_gateway: Any, until: Any
) -> None:
    with ExitStack() as outer:
        with ExitStack() as inner:
            running = serve_gateway(inner)
            front = start_envoy(outer, running.port)

        def gone() -> bool:
            return front.http.get("/v1/markets").status_code == 503

        until(gone)
        answer = front.http.get("/v1/markets")
        assert (answer.status_code, reason(answer)) == (503, "NOT_READY")
        assert answer.headers["retry-after"] == "1"
