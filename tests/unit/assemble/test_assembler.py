"""The assemble stage on a real ledger."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from dicom_node.assemble.assembler import Assembler
from dicom_node.config.settings import AssembleSettings
from dicom_node.ledger.ledger import Ledger
from dicom_node.lifecycle import StudyState
from tests.unit.ledger import rows
from tests.unit.ledger.rows import HandClock

POLICY = AssembleSettings(quiet_after_release_s=5, quiet_otherwise_s=60)


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    ledger = rows.new_ledger(tmp_path)
    yield ledger
    ledger.close()


def test_with_nothing_arriving_there_is_nothing_to_look_at_again(ledger: Ledger) -> None:
    assert Assembler(ledger, POLICY, HandClock()).turn() is None


def test_a_study_waits_for_its_silence_and_is_then_complete(ledger: Ledger) -> None:
    clock, passed = HandClock(202.0), list[str]()
    assembler = Assembler(ledger, POLICY, clock, passed.append)
    ledger.studies.instance_stored(rows.an_instance(received_at=150.0))
    rows.release(ledger, at=200.0)

    assert assembler.turn() == 205.0
    assert rows.study_of(ledger).state is StudyState.RECEIVING
    assert passed == []

    clock.now = 205.0
    assert assembler.turn() is None
    study = rows.study_of(ledger)
    assert study.state is StudyState.COMPLETE
    assert study.reason == (
        "1 instances; the last association was released, and nothing came for 5 s"
    )
    assert passed == ["assemble.completed"]


def test_the_earliest_of_several_studies_says_when_to_look_again(ledger: Ledger) -> None:
    for name, at in (("1.2.7", 150.0), ("1.2.8", 120.0), ("1.2.9", 190.0)):
        ledger.studies.instance_stored(rows.an_instance(study_instance_uid=name, received_at=at))
    assert Assembler(ledger, POLICY, HandClock(175.0)).turn() == 180.0
    assert Assembler(ledger, POLICY, HandClock(185.0)).turn() == 210.0
    assert rows.study_of(ledger, "1.2.8").state is StudyState.COMPLETE
    assert rows.study_of(ledger, "1.2.7").state is StudyState.RECEIVING


def test_an_instance_that_comes_while_we_decide_keeps_the_study_open(ledger: Ledger) -> None:
    """The clock is asked between reading the evidence and recording the verdict."""
    ledger.studies.instance_stored(rows.an_instance(1, received_at=150.0))
    rows.release(ledger, at=200.0)

    def clock_at_which_one_arrives() -> float:
        ledger.studies.instance_stored(rows.an_instance(2, received_at=299.0))
        return 300.0

    assert Assembler(ledger, POLICY, clock_at_which_one_arrives).turn() == 300.0
    assert rows.study_of(ledger).state is StudyState.RECEIVING
    assert Assembler(ledger, POLICY, HandClock(301.0)).turn() == 304.0
