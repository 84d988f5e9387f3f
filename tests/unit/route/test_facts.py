"""What a study, a series and an instance are to the rules."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace

import pytest

from dicom_node.model import Attributes
from dicom_node.route.facts import InstanceFacts, SeriesFacts, StudyFacts, most_common
from tests.unit.route.made import series, study

AXIAL = ("1", "0", "0", "0", "1", "0")


@pytest.fixture
def zone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let this machine's local time be that of Kolkata, half an hour beside the hours."""
    monkeypatch.setenv("TZ", "Asia/Kolkata")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def an_instance(number: int, header: Attributes, **changes: object) -> InstanceFacts:
    return replace(InstanceFacts(f"1.2.1.{number}", "d", header), **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("headers", "common"),
    [
        ([], {}),
        ([{"A": ("1",)}], {"A": ("1",)}),
        ([{"A": ("1",)}, {"A": ("1",)}, {"A": ("2",)}], {"A": ("1",)}),
        ([{"A": ("2",)}, {"A": ("1",)}], {"A": ("1",)}),  # a tie goes to what sorts first
        ([{"A": ("1",)}, {}, {}], {"A": ()}),  # most do not have it
        ([{"A": ("1", "2")}, {"A": ("1",)}, {"A": ("1", "2")}], {"A": ("1", "2")}),
    ],
)
def test_a_series_has_what_most_of_its_instances_carry(
    headers: list[Attributes], common: Attributes
) -> None:
    assert most_common(headers) == common
    assert most_common(headers[::-1]) == common


def test_a_series_is_counted_and_measured() -> None:
    headers = [
        {"ImageOrientationPatient": AXIAL, "ImagePositionPatient": ("0", "0", str(z))}
        for z in (0, 5, 5)
    ]
    one = SeriesFacts("1.2.1", tuple(an_instance(n, h) for n, h in enumerate(headers)))
    assert one.attributes["instance_count"] == ("3",)
    assert one.attributes["slice_count"] == ("2",)
    assert one.attributes["orientation"] == ("axial",)
    assert one.instances[0].attributes["orientation"] == ("axial",)
    assert "slice_count" not in series().attributes  # a radiograph has none


def test_what_cannot_be_parsed_counts_and_says_nothing() -> None:
    broken = an_instance(9, {}, unreadable=True)
    one = replace(series(1, 1), instances=(*series(1, 1).instances, broken, broken))
    assert one.attributes["Modality"] == ("CT",)
    assert one.attributes["instance_count"] == ("3",)


@pytest.mark.usefixtures("zone")
def test_who_sent_it_and_when_is_that_of_the_last_instance_by_local_time() -> None:
    # Saturday, 2026-11-28, 19:00:00 UTC is half past midnight on Sunday
    early = an_instance(1, {}, calling_ae_title="A", received_at=1_795_890_000.0)
    late = an_instance(
        2,
        {},
        calling_ae_title="B",
        called_ae_title="NODE",
        peer="ward",
        received_at=1_795_892_400.0,
    )
    for instances in ((early, late), (late, early)):
        attributes = SeriesFacts("1.2.1", instances).attributes
        assert attributes["calling_ae_title"] == ("B",)
        assert attributes["called_ae_title"] == ("NODE",)
        assert attributes["peer"] == ("ward",)
        assert attributes["time_of_day"] == ("003000",)
        assert attributes["weekday"] == ("sunday",)
    assert early.attributes["calling_ae_title"] == ("A",)


def test_of_files_nobody_knows_who_sent_them() -> None:
    assert "time_of_day" not in series().attributes
    assert "peer" not in study(series()).attributes


def test_a_study_has_every_value_and_its_own_counts() -> None:
    facts = replace(study(series(1, 2), series(2, 3, Modality="MR")), completeness="suspect")
    assert facts.attributes["Modality"] == ("CT", "MR")
    assert facts.attributes["instance_count"] == ("5",)
    assert facts.attributes["series_count"] == ("2",)
    assert facts.attributes["completeness"] == ("suspect",)
    assert StudyFacts("1.2", ()).attributes["instance_count"] == ("0",)


def test_in_order_is_by_uid_and_leaves_what_is_in_order_alone() -> None:
    one, other = series(1), series(2)
    assert study(other, one).in_order() == study(one, other)
    backwards = replace(one, instances=one.instances[::-1])
    assert backwards.in_order() == one
    assert one.in_order() is one


def test_a_series_without_some_of_its_instances_is_counted_anew() -> None:
    one = series(1, 3)
    assert one.attributes["instance_count"] == ("3",)
    assert one.without({"1.2.1.2"}).attributes["instance_count"] == ("2",)
    assert one.without(()) is one
    assert one.without_any().instances == ()
