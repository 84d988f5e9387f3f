"""A peer that asked for storage commitment and waits for its report, on pynetdicom."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Self

from pydicom.dataset import Dataset
from pynetdicom import AE, evt
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    StorageCommitmentPushModel,
    Verification,
)

from tests.node_process import wait_until


@dataclass(frozen=True)
class Report:
    """An N-EVENT-REPORT, as it came."""

    event_type_id: int
    transaction_uid: str
    committed: tuple[str, ...]
    failed: tuple[tuple[str, int], ...]
    as_scp: bool
    """Whether who sent it had negotiated to be the SCP."""

    @classmethod
    def of(cls, event: Any) -> Self:
        information = event.event_information
        committed = information.get("ReferencedSOPSequence", [])
        failed = information.get("FailedSOPSequence", [])
        return cls(
            int(event.event_type),
            str(information.TransactionUID),
            tuple(str(item.ReferencedSOPInstanceUID) for item in committed),
            tuple((str(i.ReferencedSOPInstanceUID), int(i.FailureReason)) for i in failed),
            any(
                context.abstract_syntax == StorageCommitmentPushModel and context.as_scu
                for context in event.assoc.accepted_contexts
            ),
        )


@dataclass
class CommitmentScu:
    """Listens for reports, and answers them with the statuses that a test sets.

    Parameters
    ----------
    statuses : list of int
        Of the first answers; 0x0000 when there are no more.
    accepts : bool
        Whether Storage Commitment is accepted at all.
    answers_role : bool or None
        What is said to the SCP role; None says nothing.
    """

    port: int = 0
    statuses: list[int] = field(default_factory=list)
    accepts: bool = True
    answers_role: bool | None = True
    aborts: int = 0
    """So many reports are answered with an abort."""
    reports: list[Report] = field(default_factory=list)
    associations: int = 0

    def __enter__(self) -> Self:
        ae = AE("SCANNER")
        ae.add_supported_context(Verification)
        if self.accepts:
            ae.add_supported_context(
                StorageCommitmentPushModel,
                scu_role=None if self.answers_role is None else False,
                scp_role=self.answers_role,
            )
        server: Any = ae.start_server(
            ("127.0.0.1", self.port),
            block=False,
            evt_handlers=[
                (evt.EVT_N_EVENT_REPORT, self.take),
                (evt.EVT_ACCEPTED, self._accepted),
            ],
        )
        self._server = server
        self.port = server.server_address[1]
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()

    def take(self, event: Any) -> tuple[int, Dataset | None]:
        """Handle an N-EVENT-REPORT, on this server or on an association of its own."""
        self.reports.append(Report.of(event))
        if self.aborts:
            self.aborts -= 1
            event.assoc.abort()
        return (self.statuses.pop(0) if self.statuses else 0), None

    def wait_for_reports(self, count: int, timeout_s: float = 30.0) -> None:
        wait_until(lambda: len(self.reports) >= count, timeout_s, f"report number {count}")

    def _accepted(self, event: Any) -> None:
        self.associations += 1
