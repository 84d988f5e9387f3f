"""The assemble stage on a real ledger."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from dicom_node.assemble.assembler import Assembler
from dicom_node.config.settings import AssembleSettings
from dicom_node.ledger.ledger import Ledger
from dicom_node.lifecycle import StudyState
from dicom_node.model import Attributes
from dicom_node.verdict import Certainty, Silences
from tests.corpus.on_ledger import on_ledger
from tests.corpus.player import play
from tests.corpus.scenarios import (
    Family,
    announced_wrongly,
    broken,
    clean,
    late_series,
    truncated,
)
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
        "PROBABLE: 1 instances in 1 series; the last association was released; nothing came for 5 s"
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
    ledger.studies.instance_stored(rows.an_instance(1, received_at=297.0))
    rows.release(ledger, at=298.0)

    def clock_at_which_one_arrives() -> float:
        ledger.studies.instance_stored(rows.an_instance(2, received_at=299.0))
        return 303.0

    assert Assembler(ledger, POLICY, clock_at_which_one_arrives).turn() == 303.0
    assert rows.study_of(ledger).state is StudyState.RECEIVING
    assert Assembler(ledger, POLICY, HandClock(303.5)).turn() == 304.0


# ---------------------------------------------------------------- verdicts and paces


def test_the_verdict_is_kept_with_the_study_and_each_of_its_series(ledger: Ledger) -> None:
    for series in ("1.2.3.1.1", "1.2.3.1.2"):
        ledger.studies.instance_stored(rows.an_instance(series_instance_uid=series))
    rows.release(ledger, at=200.0)
    Assembler(ledger, POLICY, HandClock(210.0)).turn()
    kept = ledger.verdicts.of_study(rows.STUDY)
    assert [(v.series_instance_uid, v.certainty, v.revision, v.at) for v in kept] == [
        ("", Certainty.PROBABLE, 1, 210.0),
        ("1.2.3.1.1", Certainty.PROBABLE, 1, 210.0),
        ("1.2.3.1.2", Certainty.PROBABLE, 1, 210.0),
    ]
    assert kept[0].for_[0] == "2 instances in 2 series"
    assert kept[0].against == ()


def test_a_late_instance_is_judged_in_a_revision_of_its_own_and_corrects_the_pace(
    ledger: Ledger,
) -> None:
    ledger.studies.instance_stored(rows.an_instance(1, received_at=150.0))
    rows.release(ledger, at=151.0)
    Assembler(ledger, POLICY, HandClock(160.0)).turn()
    assert ledger.paces.of("SCANNER", "") == (Silences(0.0, 0.0),)
    rows.open_association(ledger, "later", at=180.0)
    ledger.studies.instance_stored(rows.an_instance(2, received_at=181.0, association_id="later"))
    rows.release(ledger, "later", at=182.0)
    Assembler(ledger, POLICY, HandClock(1000.0)).turn()
    assert [v.revision for v in ledger.verdicts.of_study(rows.STUDY)] == [1, 1, 2, 2]
    assert ledger.paces.of("SCANNER", "") == (Silences(30.0, 1.0),)


def test_a_pace_that_was_learned_decides_the_next_study(ledger: Ledger) -> None:
    clock = HandClock()
    assembler = Assembler(ledger, POLICY, clock)
    for number in range(11):
        name, begin = f"1.2.{number}", 1000.0 * (number + 1)
        for part, at in (("first", begin), ("second", begin + 3.0)):
            association = rows.open_association(ledger, f"{part}-{number}", at)
            ledger.studies.instance_stored(
                rows.an_instance(
                    series_instance_uid=f"{name}.{part == 'first':d}",
                    study_instance_uid=name,
                    association_id=association,
                    received_at=at,
                )
            )
            rows.release(ledger, association, at)
        clock.now = begin + 3.0
        wait_s = (assembler.turn() or 0.0) - clock.now
        assert wait_s == pytest.approx(4.5 if number == 10 else 5.0)
        clock.now = begin + 8.0
        assert assembler.turn() is None


def test_a_study_of_which_something_was_refused_waits_until_it_comes(ledger: Ledger) -> None:
    ledger.studies.instance_stored(rows.an_instance(1, received_at=150.0))
    missing = rows.an_instance(2, received_at=170.0)
    subject = ("association", rows.ASSOCIATION)
    ledger.events.record(151.0, subject, "INSTANCE_REFUSED", missing.sop_instance_uid)
    rows.release(ledger, at=152.0)
    assembler = Assembler(ledger, POLICY, HandClock(160.0))
    assert assembler.turn() == 750.0
    ledger.studies.instance_stored(missing)
    assert assembler.turn() == pytest.approx(170.0 + 1.2 * 18.0)  # it paused for 18 s


def test_a_peer_may_have_a_policy_of_its_own_and_have_studies_held(ledger: Ledger) -> None:
    ledger.studies.instance_stored(rows.an_instance(received_at=150.0))
    rows.release(ledger, at=151.0)
    holding = POLICY.model_copy(update={"quiet_after_release_s": 20, "at_probable": "hold"})
    clock = HandClock(160.0)
    assembler = Assembler(ledger, POLICY, clock, by_ae_title={"SCANNER": holding})
    assert assembler.turn() == 171.0
    clock.now = 171.0
    assert assembler.turn() is None
    study = rows.study_of(ledger)
    assert study.state is StudyState.PARKED
    assert study.reason.startswith("held for a person: PROBABLE: ")


def test_at_rest_a_look_reads_no_instance_and_no_header_again(ledger: Ledger) -> None:
    asked: list[str] = []

    def headers(study_instance_uid: str) -> dict[str, dict[str, Attributes]]:
        asked.append(study_instance_uid)
        return {rows.SERIES: {f"{rows.SERIES}.1": {"Modality": ("CT",)}}}

    ledger.studies.instance_stored(rows.an_instance(received_at=150.0))
    assembler = Assembler(ledger, POLICY, HandClock(160.0), headers=headers)
    for _ in range(3):
        assembler.turn()
    assert asked == [rows.STUDY]
    ledger.studies.instance_stored(rows.an_instance(2, received_at=155.0))
    for _ in range(3):  # the header of the second is not known yet
        assembler.turn()
    assert len(asked) == 4


# ---------------------------------------------------------------- the corpus


@pytest.mark.parametrize("family", [clean, broken, late_series, announced_wrongly, truncated])
def test_on_a_ledger_a_transfer_ends_as_it_does_for_the_judge_alone(
    family: Family, ledger: Ledger
) -> None:
    for number, transfer in enumerate(list(family())[::20]):
        assert on_ledger(ledger, transfer, number) == [
            (act.certainty, act.was_whole) for act in play(transfer)
        ], transfer.title


def test_a_study_whose_file_is_lost_holds_up_no_other(ledger: Ledger) -> None:
    ledger.studies.instance_stored(rows.an_instance(received_at=150.0))
    other = rows.an_instance(
        study_instance_uid="1.2.8", series_instance_uid="1.2.8.1", received_at=150.0
    )
    ledger.studies.instance_stored(other)
    rows.release(ledger, at=151.0)

    def headers(uid: str) -> dict[str, dict[str, Attributes]]:
        if uid == rows.STUDY:
            raise FileNotFoundError(2, "No such file or directory")
        return {}

    assembler = Assembler(ledger, POLICY, HandClock(1000.0), headers=headers)
    with capture_logs() as logs:
        assert assembler.turn() is None
    assert rows.study_of(ledger).state is StudyState.COMPLETE  # the router parks it, and says why
    assert rows.study_of(ledger, "1.2.8").state is StudyState.COMPLETE
    assert [one["event"] for one in logs if one["log_level"] == "error"] == ["headers_not_read"]
