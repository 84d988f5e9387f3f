"""Any order of arrival and any repeat make the same study and the same jobs."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dicom_node.ledger.arrivals import Arrival
from dicom_node.ledger.ledger import Ledger
from dicom_node.lifecycle import StudyState
from dicom_node.model import Instance
from dicom_node.route.router import EngineLabel, job_id
from tests.unit.ledger import rows
from tests.unit.ledger.rows import an_instance
from tests.unit.route.made import key_of

STUDY_OF_SIX = [
    an_instance(number, series_instance_uid=f"1.2.3.{series}")
    for series in (1, 2)
    for number in (1, 2, 3)
]
_studies = itertools.count(1)


@pytest.fixture(scope="module")
def ledger() -> Iterator[Ledger]:
    with tempfile.TemporaryDirectory() as folder:
        ledger = rows.new_ledger(Path(folder))
        yield ledger
        ledger.close()


@st.composite
def arrivals(draw: st.DrawFn) -> list[int]:
    """Indices into the study: all of them, in any order, some again."""
    repeats = draw(st.lists(st.integers(0, 5), max_size=8))
    return draw(st.permutations([*range(6), *repeats]))


def as_study(instances: list[Instance], uid: str) -> list[Instance]:
    """Return the instances under the UIDs of a study of its own, each received a second later."""
    return [
        an_instance(
            index,
            study_instance_uid=uid,
            series_instance_uid=instance.series_instance_uid,
            sop_instance_uid=instance.sop_instance_uid,
            digest=instance.digest,
            path=instance.path,
            received_at=100.0 + index,
        )
        for index, instance in enumerate(instances)
    ]


def what_counts(instances: list[Instance]) -> list[tuple[str, str, str, str]]:
    return [(i.series_instance_uid, i.sop_instance_uid, i.digest, i.path) for i in instances]


@settings(max_examples=30, deadline=None, derandomize=True)
@given(order=arrivals())
def test_any_order_and_any_repeats_make_the_same_study(ledger: Ledger, order: list[int]) -> None:
    uid = f"1.9.{next(_studies)}"
    arriving = as_study([STUDY_OF_SIX[index] for index in order], uid)
    answers = [ledger.studies.instance_stored(instance) for instance in arriving]
    assert answers.count(Arrival.NEW) == 6
    assert answers.count(Arrival.REPEATED) == len(order) - 6
    study = rows.study_of(ledger, uid)
    assert (study.state, study.revision) == (StudyState.RECEIVING, 1)
    assert what_counts(ledger.studies.instances(uid)) == what_counts(STUDY_OF_SIX)


@settings(max_examples=20, deadline=None, derandomize=True)
@given(order=arrivals(), complete_after=st.sets(st.integers(0, 13), max_size=3))
def test_however_often_it_was_taken_as_complete_the_last_revision_has_everything(
    ledger: Ledger, order: list[int], complete_after: set[int]
) -> None:
    uid = f"1.9.{next(_studies)}"
    seen: set[int] = set()
    revision, is_open = 1, True
    for position, (index, instance) in enumerate(
        zip(order, as_study([STUDY_OF_SIX[index] for index in order], uid), strict=True)
    ):
        if index not in seen and not is_open:
            revision, is_open = revision + 1, True
        seen.add(index)
        ledger.studies.instance_stored(instance)
        if position in complete_after and is_open:
            [evidence] = [e for e in ledger.studies.receiving() if e.study_instance_uid == uid]
            assert ledger.studies.completed(evidence, "quiet", 200.0)
            is_open = False
    assert rows.study_of(ledger, uid).revision == revision
    assert what_counts(ledger.studies.instances(uid)) == what_counts(STUDY_OF_SIX)


def name_of(instances: list[Instance]) -> str:
    label = EngineLabel("1.0.0", "a" * 64)
    return job_id("1.2", [key_of(i) for i in instances], "ct_lungs", label)


@settings(max_examples=50, deadline=None, derandomize=True)
@given(order=st.permutations(STUDY_OF_SIX))
def test_the_name_of_a_job_does_not_depend_on_the_order(order: list[Instance]) -> None:
    assert name_of(order) == name_of(STUDY_OF_SIX)


@settings(max_examples=50, deadline=None, derandomize=True)
@given(left_out=st.sets(st.integers(0, 5), min_size=1, max_size=5))
def test_whoever_lacks_an_instance_is_another_job(left_out: set[int]) -> None:
    rest = [i for index, i in enumerate(STUDY_OF_SIX) if index not in left_out]
    assert name_of(rest) != name_of(STUDY_OF_SIX)
