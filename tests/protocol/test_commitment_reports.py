"""Reports of storage commitment, on associations of ours, to peers good and bad."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from dicom_node.config.settings import Config, DeliverSettings, NodeSettings, Peer
from dicom_node.deliver.commitments import CommitmentReporter
from dicom_node.ledger.ledger import Ledger
from dicom_node.lifecycle import CommitmentState
from dicom_node.model import Commitment, ReferencedInstance
from tests.protocol.commitment_scu import CommitmentScu, Report
from tests.unit.ledger import rows
from tests.unit.ledger.rows import CT_IMAGE_STORAGE, SERIES, HandClock, an_instance, receive

HELD = ReferencedInstance(CT_IMAGE_STORAGE, f"{SERIES}.1")
MISSING = ReferencedInstance(CT_IMAGE_STORAGE, "1.2.3.404")


@dataclass
class Reporting:
    """A ledger with requests of SCANNER, and who reports them to a port."""

    ledger: Ledger
    clock: HandClock
    reporter: CommitmentReporter

    def request(self, transaction_uid: str, *references: ReferencedInstance) -> None:
        now = self.clock()
        self.ledger.commitments.request(transaction_uid, "SCANNER", references, now, now)

    def turn(self) -> None:
        self.reporter.turn("SCANNER")

    @property
    def commitments(self) -> list[Commitment]:
        return self.ledger.commitments.in_states(*CommitmentState)

    @property
    def states(self) -> list[CommitmentState]:
        return [commitment.state for commitment in self.commitments]


ReportingTo = Callable[[int], Reporting]


@pytest.fixture
def reporting_to(tmp_path: Path) -> Iterator[ReportingTo]:
    ledger = rows.new_ledger(tmp_path)
    receive(ledger, an_instance(1))

    def make(port: int) -> Reporting:
        clock = HandClock(1000.0)
        config = Config(
            node=NodeSettings(ae_title="DICOM_NODE"),
            deliver=DeliverSettings(timeout_s=2, retry_first_s=10),
            peers={"scanner": Peer(ae_title="SCANNER", host="127.0.0.1", port=port)},
        )
        reporter = CommitmentReporter(config, ledger, lambda i: True, lambda: True, clock)
        return Reporting(ledger, clock, reporter)

    yield make
    ledger.close()


def test_all_that_is_due_goes_out_over_one_association_with_us_as_the_scp(
    reporting_to: ReportingTo,
) -> None:
    with CommitmentScu() as scu:
        reporting = reporting_to(scu.port)
        reporting.request("1.2.3.71", HELD)
        reporting.request("1.2.3.72", HELD, MISSING)
        reporting.turn()
    assert scu.reports == [
        Report(1, "1.2.3.71", (HELD.sop_instance_uid,), (), as_scp=True),
        Report(
            2,
            "1.2.3.72",
            (HELD.sop_instance_uid,),
            ((MISSING.sop_instance_uid, 0x0112),),
            as_scp=True,
        ),
    ]
    assert scu.associations == 1
    assert reporting.states == [CommitmentState.REPORTED] * 2
    assert [c.reason for c in reporting.commitments] == [
        "all 1 instances are committed",
        "1 of 2 instances are not committed, the first is 1.2.3.404 (0x0112)",
    ]


def test_a_peer_that_says_nothing_to_roles_is_reported_to_all_the_same(
    reporting_to: ReportingTo,
) -> None:
    with CommitmentScu(answers_role=None) as scu:
        reporting = reporting_to(scu.port)
        reporting.request("1.2.3.71", HELD)
        reporting.turn()
    assert [report.as_scp for report in scu.reports] == [False]
    assert reporting.states == [CommitmentState.REPORTED]


def test_a_peer_that_denies_us_the_scp_role_is_not(reporting_to: ReportingTo) -> None:
    with CommitmentScu(answers_role=False) as scu:
        reporting = reporting_to(scu.port)
        reporting.request("1.2.3.71", HELD)
        reporting.turn()
    assert scu.reports == []
    assert reporting.states == [CommitmentState.DEAD]
    assert "with us as the SCP" in reporting.commitments[0].reason


def test_a_peer_that_accepts_no_storage_commitment_is_dead_with_a_hint(
    reporting_to: ReportingTo,
) -> None:
    with CommitmentScu(accepts=False) as scu:
        reporting = reporting_to(scu.port)
        reporting.request("1.2.3.71", HELD)
        reporting.turn()
    assert reporting.states == [CommitmentState.DEAD]
    assert "accepts no report of storage commitment" in reporting.commitments[0].reason


@pytest.mark.parametrize("status", [0x0110, 0x0213])
def test_a_failure_that_may_pass_is_tried_again(status: int, reporting_to: ReportingTo) -> None:
    with CommitmentScu(statuses=[status]) as scu:
        reporting = reporting_to(scu.port)
        reporting.request("1.2.3.71", HELD)
        reporting.turn()
        assert reporting.states == [CommitmentState.PENDING]
        assert f"answered 0x{status:04X}" in reporting.commitments[0].reason
        reporting.clock.now += 11
        reporting.turn()
    assert reporting.states == [CommitmentState.REPORTED]
    assert len(scu.reports) == 2


def test_a_transaction_that_the_peer_no_longer_knows_is_dead(reporting_to: ReportingTo) -> None:
    with CommitmentScu(statuses=[0x0115]) as scu:
        reporting = reporting_to(scu.port)
        reporting.request("1.2.3.71", HELD)
        reporting.request("1.2.3.72", HELD)
        reporting.turn()
    assert reporting.states == [CommitmentState.DEAD, CommitmentState.REPORTED]


def test_an_association_that_breaks_costs_an_attempt_and_no_report(
    reporting_to: ReportingTo,
) -> None:
    with CommitmentScu(aborts=1) as scu:
        reporting = reporting_to(scu.port)
        reporting.request("1.2.3.71", HELD)
        reporting.request("1.2.3.72", HELD)
        reporting.turn()
        assert reporting.states == [CommitmentState.PENDING] * 2
        reporting.clock.now += 11
        reporting.turn()
    assert reporting.states == [CommitmentState.REPORTED] * 2


def test_a_peer_that_is_down_is_reported_to_when_it_is_up(
    reporting_to: ReportingTo, free_port: int
) -> None:
    reporting = reporting_to(free_port)
    reporting.request("1.2.3.71", MISSING)
    reporting.turn()
    assert reporting.states == [CommitmentState.PENDING]
    assert "cannot be reached" in reporting.commitments[0].reason
    receive(reporting.ledger, an_instance(2, sop_instance_uid=MISSING.sop_instance_uid))
    with CommitmentScu(free_port) as scu:
        reporting.clock.now += 11
        reporting.turn()
    # what came meanwhile is committed: it is decided when it is reported
    assert scu.reports[0].event_type_id == 1
    assert reporting.states == [CommitmentState.REPORTED]
