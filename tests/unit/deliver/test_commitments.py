"""The commitment reporter, as far as it needs no peer: what is noted when it cannot even begin."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from dicom_node.config.settings import Config, DeliverSettings
from dicom_node.deliver.commitments import CommitmentReporter
from dicom_node.ledger.ledger import Ledger
from dicom_node.lifecycle import CommitmentState
from dicom_node.model import Commitment, ReferencedInstance
from tests.unit.ledger import rows
from tests.unit.ledger.rows import CT_IMAGE_STORAGE, HandClock

CONFIG = Config(
    deliver=DeliverSettings(retry_first_s=10, retry_longest_s=60, give_up_after_h=1, jitter=0)
)
"""Without any peer: whoever asks has no address."""


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    ledger = rows.new_ledger(tmp_path)
    yield ledger
    ledger.close()


@pytest.fixture
def clock() -> HandClock:
    return HandClock(1000.0)


@pytest.fixture
def reporter(ledger: Ledger, clock: HandClock) -> CommitmentReporter:
    return CommitmentReporter(CONFIG, ledger, lambda instance: True, lambda: True, clock)


def request(ledger: Ledger, calling: str = "SCANNER", not_before: float = 900.0) -> Commitment:
    wanted = [ReferencedInstance(CT_IMAGE_STORAGE, "1.2.3")]
    return ledger.commitments.request("1.2.3.77", calling, wanted, not_before, 900.0)


def now_of(ledger: Ledger, commitment: Commitment) -> Commitment:
    found = ledger.commitments.get(commitment.commitment_id)
    assert found is not None
    return found


def test_before_its_time_nothing_is_done(reporter: CommitmentReporter, ledger: Ledger) -> None:
    commitment = request(ledger, not_before=1001.0)
    reporter.turn("SCANNER")
    assert now_of(ledger, commitment) == commitment


def test_nothing_is_decided_while_the_ledger_is_behind(ledger: Ledger, clock: HandClock) -> None:
    commitment = request(ledger)
    CommitmentReporter(CONFIG, ledger, lambda i: True, lambda: False, clock).turn("SCANNER")
    assert now_of(ledger, commitment) == commitment


def test_who_has_no_address_is_waited_for_and_the_reason_says_what_to_add(
    reporter: CommitmentReporter, ledger: Ledger
) -> None:
    commitment = request(ledger)
    reporter.turn("SCANNER")
    waiting = now_of(ledger, commitment)
    assert (waiting.state, waiting.failures) == (CommitmentState.PENDING, 1)
    assert waiting.not_before == 1010.0
    assert waiting.reason == (
        "no peer with ae_title SCANNER has an address; add host and port to its entry in `peers:`; "
        "next attempt after 10 s"
    )


def test_the_wait_doubles_up_to_the_longest_and_ends_in_a_dead_letter(
    reporter: CommitmentReporter, ledger: Ledger, clock: HandClock
) -> None:
    commitment = request(ledger)
    waits_s = []
    while (current := now_of(ledger, commitment)).state is CommitmentState.PENDING:
        clock.now = max(clock.now, current.not_before)
        reporter.turn("SCANNER")
        waits_s.append(now_of(ledger, commitment).not_before - clock.now)
    assert waits_s[:5] == [10, 20, 40, 60, 60]
    assert current.state is CommitmentState.DEAD
    assert 3600 < clock.now - current.tried_since <= 3700
    assert current.reason.endswith("add host and port to its entry in `peers:`")


def test_an_error_of_ours_postpones_what_was_in_hand_and_nothing_else(
    reporter: CommitmentReporter, ledger: Ledger
) -> None:
    mine, other = request(ledger), request(ledger, "PACS")
    for calling in ("SCANNER", "PACS"):
        ledger.commitments.start(ledger.commitments.ready(calling, 1000.0, 10), 1000.0)
    reporter.broke("SCANNER", KeyError("Doe^Jane"))
    assert now_of(ledger, mine).state is CommitmentState.PENDING
    assert now_of(ledger, mine).reason == (
        "our own error: KeyError; see the node's log; next attempt after 10 s"
    )
    assert now_of(ledger, other).state is CommitmentState.REPORTING
