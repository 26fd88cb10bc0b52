"""Each call that may change something leaves a row: before it begins, or it does not begin."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
import pytest
import sqlalchemy as sa

from gateway import wiring
from gateway.audit import AuditLog, AuditRow, CallAudit
from gateway.call import Call
from gateway.contract import read_methods, services
from gateway.settings import load
from marketcal.errors import NotReady, WrongState
from marketcal.v1 import alert_pb2 as pb
from marketcal.v1 import alert_pb2_grpc

METHODS = read_methods()
SECRET = "5a7e0c93d1f84b62b9e6a2d8c07f4e15"
METHOD = "/marketcal.v1.AlertService/AcknowledgeAlert"


@dataclass
class Alerts(alert_pb2_grpc.AlertServiceServicer):
    """Acknowledges, and does what the id of the alert says."""

    begun: list[str] = field(default_factory=list)
    while_begun: Callable[[], Any] = lambda: None
    seen: list[Any] = field(default_factory=list)

    async def AcknowledgeAlert(  # noqa: N802 - the contract names the methods
        self, request: pb.AcknowledgeAlertRequest, call: Any
    ) -> pb.AcknowledgeAlertResponse:
        """Notes what the audit holds while it runs."""
        self.begun.append(request.alert_id)
        self.seen.append(self.while_begun())
        if request.alert_id == "closed":
            raise WrongState("it is closed")
        if request.alert_id == "broken":
            raise RuntimeError("of the handler")
        if request.alert_id == "slow":
            await asyncio.sleep(30)
        return pb.AcknowledgeAlertResponse(alert=pb.Alert(alert_id=request.alert_id))

    async def ListAlerts(self, request: Any, call: Any) -> pb.ListAlertsResponse:  # noqa: N802
        """Changes nothing."""
        return pb.ListAlertsResponse()


@dataclass
class Served:
    """A gateway over `Alerts`."""

    parts: wiring.Parts
    alerts: Alerts
    stub: Any
    store: Path
    address: str

    def key(self, role: str) -> tuple[tuple[str, str], ...]:
        text, _ = self.parts.keys.create(role)
        self.parts.ring.replace(self.parts.keys.rows())
        return (("x-api-key", text),)

    def rows(self) -> list[AuditRow]:
        """Rows of calls, the newest first."""
        return [row for row in self.parts.keys.audit.rows() if row.action.startswith("/")]


@pytest.fixture
def served(server_loop: Any, open_channel: Any, tmp_path: Path) -> Iterator[Served]:
    alerts = Alerts()
    settings = load(
        {
            "gateway": {"port": 0, "refresh_seconds": 0.05, "hosts": ("alert",), "behind": True},
            "upstream": {"secret": SECRET},
            "control": {"url": f"sqlite:///{tmp_path}/control.db"},
            "flows": {"lake": str(tmp_path / "lake"), "raw": str(tmp_path / "raw")},
        }
    )
    parts = server_loop.call(wiring.build, settings, answering={"alert": alerts})
    life = wiring.running(parts)
    with ExitStack() as stack:
        port = server_loop.run(life.__aenter__())
        stack.callback(lambda: server_loop.run(life.__aexit__(None, None, None)))
        channel = stack.enter_context(open_channel(f"127.0.0.1:{port}"))
        stub: Any = alert_pb2_grpc.AlertServiceStub(channel)
        yield Served(parts, alerts, stub, tmp_path / "control.db", f"127.0.0.1:{port}")


def request(alert_id: str) -> pb.AcknowledgeAlertRequest:
    return pb.AcknowledgeAlertRequest(alert_id=alert_id)


def test_a_change_leaves_who_what_when_and_from_where(served: Served) -> None:
    key = served.key("operator")
    served.alerts.while_begun = served.rows

    sent = (*key, ("x-request-id", "req-1"))
    served.stub.AcknowledgeAlert(request("alert-7"), metadata=sent, timeout=20)

    [during] = served.alerts.seen[0]
    assert during.outcome is None, "the attempt is written before the handler runs"
    [row] = served.rows()
    assert (row.actor, row.role) == (key[0][1].split("_")[1], "operator")
    assert (row.action, row.resource) == (METHOD, "alert-7")
    assert (row.address, row.request_id, row.outcome) == ("127.0.0.1", "req-1", "OK")
    assert 0 <= (wiring.utc_now() - row.at).total_seconds() < 60


@pytest.mark.parametrize(
    ("alert_id", "timeout", "outcome"),
    [
        ("closed", 20, {"FAILED_PRECONDITION"}),
        ("broken", 20, {"INTERNAL"}),
        ("slow", 0.5, {"DEADLINE_EXCEEDED", "CANCELLED"}),  # whose clock rings first
    ],
)
def test_how_a_change_failed_is_written(
    alert_id: str, timeout: float, outcome: set[str], served: Served, until: Any
) -> None:
    with pytest.raises(grpc.RpcError):
        served.stub.AcknowledgeAlert(
            request(alert_id), metadata=served.key("admin"), timeout=timeout
        )
    until(lambda: any(row.outcome is not None for row in served.rows()))
    assert served.rows()[0].outcome in outcome


def test_a_call_that_its_caller_ends_is_written_as_cancelled(served: Served, until: Any) -> None:
    sent = served.stub.AcknowledgeAlert.future(request("slow"), metadata=served.key("admin"))
    until(lambda: served.alerts.begun == ["slow"])
    sent.cancel()
    until(lambda: served.rows()[0].outcome == "CANCELLED")


def test_a_change_that_the_process_behind_refused_is_written_as_refused(
    served: Served, serve_gateway: Any, refused: Any, until: Any
) -> None:
    with ExitStack() as stack:
        front = serve_gateway(stack, upstream={"alert": served.address, "secret": SECRET})
        stub: Any = alert_pb2_grpc.AlertServiceStub(front.channel)
        key = (("x-api-key", front.key("operator")),)

        assert refused(stub.AcknowledgeAlert, request("closed"), key).reason == "WRONG_STATE"

        def outcomes() -> list[str | None]:
            return [r.outcome for r in front.parts.keys.audit.rows() if r.action == METHOD]

        until(lambda: outcomes() != [None])  # the refusal is passed on first
        assert outcomes() == ["FAILED_PRECONDITION"]
    assert served.rows()[0].outcome == "FAILED_PRECONDITION"


class SlowLog(AuditLog):
    """An audit table whose writes wait until the test lets them go."""

    def __init__(self, log: AuditLog) -> None:
        self._log = log
        self.may_begin, self.may_end = threading.Semaphore(0), threading.Event()

    def write_attempt(self, *attempt: Any) -> int:
        """Writes one for each permit."""
        assert self.may_begin.acquire(timeout=20)
        return self._log.write_attempt(*attempt)

    def write_outcome(self, audit_id: int, outcome: str) -> None:
        """Writes after the test says so."""
        assert self.may_end.wait(20)
        self._log.write_outcome(audit_id, outcome)


@pytest.mark.parametrize("cancellations", [1, 2])
def test_outcomes_are_written_though_callers_leave_while_the_store_is_slow(
    cancellations: int, served: Served, server_loop: Any
) -> None:
    """More than there are threads; a second cancellation is a deadline after the caller left."""
    log = SlowLog(served.parts.keys.audit)
    audit = CallAudit(log)
    log.may_begin.release(20)

    async def change(begun: asyncio.Barrier) -> None:
        async with audit(Call(METHODS[METHOD], peer(), {}, 0.0)):
            await begun.wait()
            await asyncio.sleep(30)

    async def leave_all() -> None:
        begun = asyncio.Barrier(21)
        changes = [asyncio.ensure_future(change(begun)) for _ in range(20)]
        async with asyncio.timeout(20):
            await begun.wait()
            for _ in range(cancellations):
                for one in changes:
                    one.cancel()
                for _ in range(5):
                    await asyncio.sleep(0)
            log.may_end.set()
            await asyncio.gather(*changes, return_exceptions=True)

    server_loop.run(leave_all())
    audit.close()

    assert [row.outcome for row in served.rows()] == ["CANCELLED"] * 20


def test_a_caller_that_leaves_before_its_change_begins_leaves_no_open_row(
    served: Served, server_loop: Any
) -> None:
    log = SlowLog(served.parts.keys.audit)
    audit = CallAudit(log)
    log.may_end.set()

    async def change() -> None:
        async with audit(Call(METHODS[METHOD], peer(), {}, 0.0)):
            raise AssertionError("its caller has left")

    async def leave_all() -> None:
        changes = [asyncio.ensure_future(change()) for _ in range(20)]
        await asyncio.sleep(0)
        for one in changes:
            one.cancel()
        await asyncio.gather(*changes, return_exceptions=True)

    server_loop.run(leave_all())
    log.may_begin.release(20)
    audit.close()

    assert {row.outcome for row in served.rows()} <= {"CANCELLED"}
    assert len(served.rows()) < 20, "what no thread had taken is not written at all"


def test_after_its_end_nothing_is_begun_and_a_late_outcome_is_logged(
    served: Served, server_loop: Any, caplog: pytest.LogCaptureFixture
) -> None:
    audit = CallAudit(served.parts.keys.audit)

    async def late() -> None:
        async with audit(Call(METHODS[METHOD], peer(), {}, 0.0)):
            audit.close()
        with pytest.raises(NotReady):
            async with audit(Call(METHODS[METHOD], peer(), {}, 0.0)):
                raise AssertionError("it cannot be written down")

    server_loop.run(late())

    assert "too late for the outcome OK" in caplog.text


def peer() -> Any:
    """The transport's side of a call from loopback."""
    return SimpleNamespace(peer=lambda: "ipv4:127.0.0.1:1")


def test_what_cannot_be_written_down_is_not_done(served: Served, refused: Any, until: Any) -> None:
    key = served.key("operator")
    engine = sa.create_engine(f"sqlite:///{served.store}", poolclass=sa.NullPool)
    with engine.begin() as connection:
        connection.execute(sa.text("ALTER TABLE audit RENAME TO gone"))

    refusal = refused(served.stub.AcknowledgeAlert, request("alert-7"), key)

    assert (refusal.code, refusal.reason) == ("UNAVAILABLE", "NOT_READY")
    assert "retry-after" in refusal.trailers
    assert "gone" not in refusal.message
    assert "audit" not in refusal.message
    assert served.alerts.begun == [], "the handler did not run"
    with engine.begin() as connection:
        connection.execute(sa.text("ALTER TABLE gone RENAME TO audit"))
    served.stub.AcknowledgeAlert(request("alert-7"), metadata=key, timeout=20)
    assert [row.outcome for row in served.rows()] == ["OK"]


def test_an_outcome_that_cannot_be_written_leaves_the_answer_and_the_attempt(
    served: Served,
) -> None:
    engine = sa.create_engine(f"sqlite:///{served.store}", poolclass=sa.NullPool)

    def lose_the_column() -> None:
        with engine.begin() as connection:
            connection.execute(sa.text("ALTER TABLE audit RENAME COLUMN outcome TO lost"))

    served.alerts.while_begun = lose_the_column
    answer = served.stub.AcknowledgeAlert(
        request("alert-7"), metadata=served.key("operator"), timeout=20
    )

    assert answer.alert.alert_id == "alert-7"
    with engine.begin() as connection:
        connection.execute(sa.text("ALTER TABLE audit RENAME COLUMN lost TO outcome"))
    assert [row.outcome for row in served.rows()] == [None]


def test_a_locked_store_holds_up_changes_and_nothing_else(served: Served, until: Any) -> None:
    """The row is written beside the event loop."""
    key = served.key("operator")
    engine = sa.create_engine(f"sqlite:///{served.store}", poolclass=sa.NullPool)
    with engine.connect() as connection:
        connection.execute(sa.text("BEGIN IMMEDIATE"))
        change = served.stub.AcknowledgeAlert.future(request("alert-7"), metadata=key, timeout=20)
        until(lambda: any(thread.name.startswith("audit") for thread in threading.enumerate()))
        served.stub.ListAlerts(pb.ListAlertsRequest(), metadata=key, timeout=2)
        assert served.alerts.begun == []
        connection.rollback()
    assert change.result(20).alert.alert_id == "alert-7"


def test_what_is_refused_before_it_begins_and_what_only_reads_leaves_no_row(
    served: Served, refused: Any
) -> None:
    operator, viewer = served.key("operator"), served.key("viewer")
    served.stub.ListAlerts(pb.ListAlertsRequest(), metadata=viewer, timeout=20)
    assert refused(served.stub.AcknowledgeAlert, request("a"), viewer).reason == "SCOPE_MISSING"
    assert refused(served.stub.AcknowledgeAlert, request(""), operator).code == "INVALID_ARGUMENT"
    assert refused(served.stub.AcknowledgeAlert, request("a")).reason == "CREDENTIAL_MISSING"
    assert served.rows() == []


def test_every_method_that_changes_something_is_written_with_what_it_is_about() -> None:
    """The audit stands in the pipeline; here: each such method names an id that it can keep."""
    changing = {name for name, method in read_methods().items() if method.changes_state}
    assert METHOD in changing
    for service in services():
        for method in service.methods:
            if f"/{service.full_name}/{method.name}" in changing:
                fields = [f.name for f in method.input_type.fields if f.name.endswith("_id")]
                assert fields, f"{method.full_name}: its audit row would name nothing"


def test_no_code_but_that_of_the_outcome_changes_the_audit() -> None:
    """Rows are added, and one statement fills an outcome that is empty."""
    root = Path(wiring.__file__).parent
    text = "\n".join(path.read_text() for path in root.rglob("*.py"))
    assert text.count("AUDIT.update()") == 1
    assert "AUDIT.delete" not in text
    assert "DELETE FROM" not in text
    assert "UPDATE audit" not in text
