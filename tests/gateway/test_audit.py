"""Each call that may change something leaves a row: before it begins, or it does not begin."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import pytest
import sqlalchemy as sa

from gateway import wiring
from gateway.audit import AuditRow
from gateway.contract import read_methods, services
from gateway.settings import load
from marketcal.errors import WrongState
from marketcal.v1 import alert_pb2 as pb
from marketcal.v1 import alert_pb2_grpc

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
            "gateway": {"port": 0, "refresh_seconds": 0.05, "hosts": ("alert",)},
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
        yield Served(parts, alerts, stub, tmp_path / "control.db")


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
    until(lambda: served.rows()[0].outcome is not None)
    assert served.rows()[0].outcome in outcome


def test_a_call_that_its_caller_ends_is_written_as_cancelled(served: Served, until: Any) -> None:
    sent = served.stub.AcknowledgeAlert.future(request("slow"), metadata=served.key("admin"))
    until(lambda: served.alerts.begun == ["slow"])
    sent.cancel()
    until(lambda: served.rows()[0].outcome == "CANCELLED")


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
