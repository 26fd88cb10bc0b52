"""Whatever is sent to a route is answered as the OpenAPI document says (schemathesis).

The theorem: a request that the document allows, or one bent in any place, is answered with a code
that the document names, in the shape that it names, and never with a failure of the server or with
its insides.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode
from schemathesis.specs.openapi import checks

ROOT = Path(__file__).resolve().parents[2]
DOCUMENT = json.loads((ROOT / "docs" / "openapi.json").read_text())
OPERATIONS = [
    (verb, path) for path, verbs in sorted(DOCUMENT["paths"].items()) for verb in sorted(verbs)
]
CHECKS = [
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
]
INSIDES = re.compile(rb"Traceback|\.py\b|site-packages|File \"|0x[0-9a-f]{8}|/tmp/|sqlalchemy")
FAILURES = {500, 502, 504}


@pytest.fixture(scope="module")
def schema(front: Any) -> Any:
    """The document as schemathesis reads it, with the address of the running Envoy."""
    made = schemathesis.openapi.from_dict(DOCUMENT)
    made.config.update(base_url=f"http://127.0.0.1:{front.port}")
    return made


def bombard(schema: Any, verb: str, path: str, headers: Any, mode: Any, examples: int) -> int:
    """Sends generated requests to an operation; returns how many were answered with 200."""
    answered = 0
    strategy = schema[path][verb.upper()].as_strategy(generation_mode=mode)

    @settings(
        max_examples=examples, derandomize=True, database=None, deadline=None,
        suppress_health_check=list(HealthCheck), phases=[Phase.explicit, Phase.generate],
    )  # fmt: skip
    @given(case=strategy)
    def send(case: Any) -> None:
        nonlocal answered
        answer = case.call(headers=headers)
        answered += answer.status_code == 200
        assert answer.status_code not in FAILURES, answer.text
        assert not INSIDES.search(answer.content)
        case.validate_response(answer, checks=CHECKS)

    send()
    return answered


@pytest.mark.parametrize(("verb", "path"), OPERATIONS, ids=lambda part: str(part))
@pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda mode: mode.value)
def test_any_request_is_answered_as_documented(
    verb: str, path: str, mode: Any, schema: Any, as_admin: Any
) -> None:
    bombard(schema, verb, path, as_admin, mode, 5)


@pytest.mark.soak
@pytest.mark.parametrize(("verb", "path"), OPERATIONS, ids=lambda part: str(part))
@pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda mode: mode.value)
def test_any_of_many_requests_is_answered_as_documented(
    verb: str, path: str, mode: Any, schema: Any, as_admin: Any
) -> None:
    print(verb, path, mode.value, bombard(schema, verb, path, as_admin, mode, 500))
