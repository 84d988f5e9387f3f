"""Whom to ask how much it has of a study, and when; the answers come from a real archive."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from dicom_node.assemble.asking import SenderQuestions
from dicom_node.config.settings import Config, Peer
from dicom_node.harness.query_archive import QueryArchive
from dicom_node.harness.scanner import send
from dicom_node.ledger.arriving import StudyEvidence
from dicom_node.ledger.ledger import Ledger
from dicom_node.verdict import CountState
from tests import factories
from tests.factories import make_ct_series, write_series
from tests.unit.ledger import rows
from tests.unit.ledger.rows import HandClock


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    ledger = rows.new_ledger(tmp_path)
    yield ledger
    ledger.close()


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[QueryArchive]:
    with QueryArchive(tmp_path / "archive", destinations={}) as archive:
        files = write_series(make_ct_series(3), tmp_path / "ct")
        send(files, "127.0.0.1", archive.port, calling="SCANNER", called="ARCHIVE")
        yield archive


class Asked:
    """Questions to a sender at a port, which are noted instead of being asked."""

    def __init__(self, port: int, *, answers_find: bool = True) -> None:
        peer = Peer(
            ae_title="SCANNER",
            may_send=True,
            host="127.0.0.1",
            port=port,
            answers_find=answers_find,
        )
        self.clock = HandClock(300.0)
        self.submitted: list[str] = []
        config = Config(peers={"scanner": peer})
        self.questions = SenderQuestions(config, self.clock, self.submitted.append)


def arriving(ledger: Ledger, count: int, received_at: float = 150.0) -> StudyEvidence:
    """Receive so many of the study that the archive has, on an association that is released."""
    for number in range(1, count + 1):
        instance = rows.an_instance(
            number,
            study_instance_uid=factories.STUDY,
            series_instance_uid=factories.CT_SERIES,
            received_at=received_at,
        )
        ledger.studies.instance_stored(instance)
    rows.release(ledger)
    [evidence] = ledger.studies.receiving()
    return evidence


def test_a_sender_that_answers_is_asked_once_and_its_answer_is_told(
    ledger: Ledger, archive: QueryArchive
) -> None:
    asked = Asked(archive.port)
    study = arriving(ledger, 2)
    pending = asked.questions.about(study)
    assert pending is not None
    assert pending.state is CountState.PENDING
    asked.questions.about(study)
    assert asked.submitted == [factories.STUDY]
    asked.questions.ask(factories.STUDY)
    answer = asked.questions.about(study)
    assert answer is not None
    assert answer.state is CountState.ANSWERED
    assert answer.instance_counts == {factories.CT_SERIES: 3}
    assert answer.asked_at == 300.0


def test_what_came_since_makes_the_answer_an_old_one(ledger: Ledger, archive: QueryArchive) -> None:
    asked = Asked(archive.port)
    asked.questions.about(arriving(ledger, 2))
    asked.questions.ask(factories.STUDY)
    asked.clock.now = 400.0
    again = asked.questions.about(arriving(ledger, 3, received_at=350.0))
    assert again is not None
    assert (again.state, again.asked_at) == (CountState.PENDING, 400.0)
    assert asked.submitted == [factories.STUDY] * 2


def test_nobody_is_asked_who_is_not_configured_to_answer(ledger: Ledger) -> None:
    asked = Asked(1, answers_find=False)
    assert asked.questions.about(arriving(ledger, 1)) is None
    assert asked.submitted == []


def test_nobody_is_asked_while_an_association_is_open(ledger: Ledger) -> None:
    ledger.studies.instance_stored(rows.an_instance())
    [study] = ledger.studies.receiving()
    asked = Asked(1)
    assert asked.questions.about(study) is None
    assert asked.submitted == []


def test_a_sender_that_cannot_be_reached_is_asked_again_later(
    ledger: Ledger, free_port: int
) -> None:
    asked = Asked(free_port)
    study = arriving(ledger, 1)
    asked.questions.about(study)
    asked.questions.ask(factories.STUDY)
    failed = asked.questions.about(study)
    assert failed is not None
    assert failed.state is CountState.FAILED
    assert "cannot be reached" in failed.reason
    asked.clock.now += 61.0
    again = asked.questions.about(study)
    assert again is not None
    assert again.state is CountState.PENDING


def test_a_question_that_was_lost_is_asked_again(ledger: Ledger) -> None:
    asked = Asked(1)
    study = arriving(ledger, 1)
    asked.questions.about(study)
    asked.clock.now += 59.0
    asked.questions.about(study)
    assert asked.submitted == [factories.STUDY]
    asked.clock.now += 2.0
    asked.questions.about(study)
    assert asked.submitted == [factories.STUDY] * 2
