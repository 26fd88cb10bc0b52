"""The shape of the code: short modules and functions, effects at the edges, floors that hold."""

from __future__ import annotations

import ast
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from importlinter.cli import EXIT_STATUS_SUCCESS, lint_imports

Modules = dict[str, ast.Module]

MODULE_LINES = 400
FUNCTION_LINES = 40
BANNED_NAMES = {"utils", "common", "helpers", "misc", "constants", "base"}

READS_THE_WORLD = {
    "datetime.now", "datetime.utcnow", "datetime.today", "date.today", "time.time", "time.time_ns",
    "os.environ", "os.getenv", "os.putenv",
}  # fmt: skip
EDGES = {
    "gateway/settings.py": "settings are read from the environment",
    "gateway/wiring.py": "the gateway's process is put together here",
    "gateway/live.py": "the stream worker's process is put together here",
    "gateway/cli/": "a command is a process",
    "gateway/supervisor/": "the supervisor starts processes and gives them an environment",
    "forecast_service/models/onnx_runtime.py": "ONNX Runtime is kept quiet before its import",
    "forecast_service/serving.py": "Ray is configured by its environment before its import",
    "flows/pipeline.py": "a flow is a process: its interval ends now unless it is told otherwise",
    "market_data/venues/http.py": "the venue adapter dates what it receives",
    "market_data/replay/stream_server.py": "the replay venue is a process that begins now",
}
CATCHES_EVERYTHING = {
    "gateway/pipeline.py": "the edge of a call: unknown errors are logged and become INTERNAL",
    "gateway/wiring.py": "the refreshing task goes on with what was there before",
    "gateway/beside.py": "nobody else looks at background work: it is logged and begins again",
    "gateway/telemetry/push.py": "the thread that sends metrics goes on",
    "forecast_service/telemetry/outbox.py": "the thread that sends spans goes on",
    "gateway/ray_link.py": "whatever Ray raises means that it is not there yet",
    "gateway/cli/": "a command says what failed and exits",
    "gateway/supervisor/": "a process that failed is restarted, whatever it was",
    "forecast_service/policy/attempt.py": "a backend raises what its runtime or its peer raises",
    "forecast_service/pool.py": "each caller gets the error of its batch; the pool goes on",
    "forecast_service/replica.py": "one batch's error does not fail the others of its call",
    "flows/runs.py": "a run is recorded as failed, and the error goes on",
}


def functions(tree: ast.Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def lines_of(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines from ``def`` to the end, without the docstring."""
    total = (function.end_lineno or 0) - function.lineno + 1
    first = function.body[0]
    if ast.get_docstring(function) is not None:
        total -= (first.end_lineno or 0) - first.lineno + 1
    return total


def allowed(name: str, table: dict[str, str]) -> bool:
    return any(name == edge or (edge.endswith("/") and name.startswith(edge)) for edge in table)


def test_a_module_has_at_most_four_hundred_lines(modules: Modules, root: Path) -> None:
    long = {
        name: count
        for name in modules
        if not name.startswith("tests/benchmarks/")
        and (count := len((root / name).read_text().splitlines())) > MODULE_LINES
    }
    assert long == {}


def test_a_function_has_at_most_forty_lines(modules: Modules) -> None:
    long = {
        f"{name}:{function.name}": lines_of(function)
        for name, tree in modules.items()
        if not name.startswith("tests/benchmarks/")
        for function in functions(tree)
        if lines_of(function) > FUNCTION_LINES
    }
    assert long == {}


def test_a_module_is_named_for_what_it_holds(modules: Modules) -> None:
    assert [name for name in modules if set(Path(name).with_suffix("").parts) & BANNED_NAMES] == []


def test_a_module_says_what_it_is(code: Modules) -> None:
    assert [n for n, tree in code.items() if tree.body and not ast.get_docstring(tree)] == []


def test_clock_and_environment_are_read_at_process_edges_alone(code: Modules) -> None:
    found = {
        f"{name}:{node.lineno}"
        for name, tree in code.items()
        if not allowed(name, EDGES)
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and ast.unparse(node) in READS_THE_WORLD
    }
    assert found == set()


def test_everything_is_caught_at_process_edges_alone(code: Modules) -> None:
    def catches_all(handler: ast.ExceptHandler) -> bool:
        names = ast.unparse(handler.type) if handler.type else "BaseException"
        return bool({"Exception", "BaseException"} & set(names.strip("()").split(", ")))

    found = {
        f"{name}:{node.lineno}"
        for name, tree in code.items()
        if not allowed(name, CATCHES_EVERYTHING)
        for node in ast.walk(tree)
        if isinstance(node, ast.ExceptHandler) and catches_all(node)
    }
    assert found == set()


@pytest.mark.parametrize("edge", sorted({*EDGES, *CATCHES_EVERYTHING}))
def test_a_listed_edge_is_there(edge: str, root: Path) -> None:
    assert (root / edge).exists()


def test_the_floors_of_the_architecture_hold(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(root)
    loggers = [one for one in logging.root.manager.loggerDict.values() if hasattr(one, "disabled")]
    silent = [one.disabled for one in loggers]

    status = lint_imports(no_cache=True)

    for logger, was_silent in zip(loggers, silent, strict=True):
        logger.disabled = was_silent  # its own logging switches all others off

    assert status == EXIT_STATUS_SUCCESS, capsys.readouterr().out


def test_tests_are_no_packages(modules: Modules) -> None:
    assert [name for name in modules if name.startswith("tests/") and "__init__" in name] == []
