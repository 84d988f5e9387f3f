"""C-FIND as SCU, and counts at the sender, against the harness's archives on loopback."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset

from dicom_node.errors import DeliveryError, PeerRefused, PeerUnreachable
from dicom_node.harness import faults, query_faults, scanner
from dicom_node.harness.archive import Archive
from dicom_node.harness.query_archive import Inquiry, QueryArchive
from dicom_node.scu.address import Address
from dicom_node.scu.counting import SenderCount, count_at_sender
from dicom_node.scu.find import Level, Query, find
from dicom_node.scu.priors import find_priors
from tests.factories import (
    CT_SERIES,
    MR_SERIES,
    STUDY,
    make_ct_series,
    make_instance,
    make_mr_series,
    write,
    write_series,
)

HOST = "127.0.0.1"

MakeArchive = Callable[..., QueryArchive]


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """A study of two series, with five and three instances."""
    return [
        *write_series(make_ct_series(5), tmp_path / "ct"),
        *write_series(make_mr_series(3), tmp_path / "mr"),
    ]


@pytest.fixture
def archives(tmp_path: Path, files: list[Path]) -> Iterator[MakeArchive]:
    """Return a function that starts an archive of a class, with the study in it."""
    started: list[QueryArchive] = []

    def start(kind: type[QueryArchive] = QueryArchive, **options: Any) -> QueryArchive:
        archive = kind(tmp_path / f"archive-{len(started)}", **options)
        started.append(archive)
        archive.start()
        assert all(answer.status == 0 for answer in scanner.send(files, HOST, archive.port))
        return archive

    yield start
    for archive in started:
        archive.stop()


def address(archive: Archive, timeout_s: float = 10.0) -> Address:
    return Address(HOST, archive.port, "ARCHIVE", "DICOM_NODE", timeout_s)


def series_of(archive: QueryArchive, **options: Any) -> list[str]:
    keys = {"StudyInstanceUID": STUDY, "SeriesInstanceUID": ""}
    found = find(address(archive), Level.SERIES, keys, **options)
    return sorted(match["SeriesInstanceUID"][0] for match in found.matches)


def images(archive: QueryArchive, timeout_s: float = 10.0, **options: Any) -> tuple[int, bool]:
    keys = {"StudyInstanceUID": STUDY, "SeriesInstanceUID": CT_SERIES, "SOPInstanceUID": ""}
    found = find(address(archive, timeout_s), Level.IMAGE, keys, **options)
    return len(found.matches), found.is_complete


def counts_of(count: SenderCount) -> dict[str, tuple[int, bool]]:
    return {
        series.series_instance_uid: (series.instance_count, series.is_counted)
        for series in count.series
    }


# ---------------------------------------------------------------- what is found


def test_series_are_found_below_their_study(archives: MakeArchive) -> None:
    assert series_of(archives()) == [CT_SERIES, MR_SERIES]


def test_one_association_serves_many_queries(archives: MakeArchive) -> None:
    archive = archives()
    with Query(address(archive)) as query:
        for uid, count in ((CT_SERIES, 5), (MR_SERIES, 3), ("1.2.3", 0)):
            keys = {"StudyInstanceUID": STUDY, "SeriesInstanceUID": uid, "SOPInstanceUID": ""}
            assert len(query.find(Level.IMAGE, keys).matches) == count


@pytest.mark.parametrize(
    ("matches_max", "count", "is_complete"),
    [(1, 1, False), (4, 4, False), (5, 5, True), (6, 5, True)],
)
def test_one_match_more_than_are_wanted_cancels_the_rest(
    archives: MakeArchive, matches_max: int, count: int, is_complete: bool
) -> None:
    assert images(archives(), matches_max=matches_max) == (count, is_complete)


def test_a_peer_that_hears_no_cancel_is_aborted_and_its_matches_are_kept(
    archives: MakeArchive,
) -> None:
    archive = archives(query_faults.EndlessQueryArchive)
    assert images(archive, timeout_s=0.5, matches_max=20) == (20, False)


def test_whoever_waits_no_more_stops_the_query(archives: MakeArchive) -> None:
    archive = archives(query_faults.SlowQueryArchive, after=2)
    assert isinstance(archive, query_faults.SlowQueryArchive)

    count, is_complete = images(archive, cancelled=archive.asked.is_set)
    assert not is_complete
    assert count <= 2


def test_a_silent_peer_that_is_cancelled_is_aborted(archives: MakeArchive) -> None:
    archive = archives(query_faults.SilentQueryArchive, after=2)
    assert isinstance(archive, query_faults.SilentQueryArchive)
    assert images(archive, timeout_s=0.5, cancelled=archive.asked.is_set)[1] is False


@pytest.mark.parametrize(
    ("character_set", "name"),
    [
        ("ISO_IR 100", "Äneas^Rüdiger"),
        ("ISO_IR 144", "Люксембург"),
        ("GB18030", "Wang^XiaoDong=王^小东"),
        ("ISO_IR 192", "Wang^XiaoDong=王^小东"),
        (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎=やまだ^たろう"),
        (["", "ISO 2022 IR 149"], "Hong^Gildong=洪^吉洞=홍^길동"),
    ],
)
def test_answers_are_decoded_by_the_character_set_that_they_name(
    tmp_path: Path, character_set: str | list[str], name: str
) -> None:
    named = make_instance(SpecificCharacterSet=character_set, PatientName=name)
    with QueryArchive(tmp_path / "archive") as archive:
        scanner.send([write(named, tmp_path / "1.dcm")], HOST, archive.port)
        found = find(address(archive), Level.STUDY, {"StudyInstanceUID": "", "PatientName": ""})
    [match] = found.matches
    assert match["PatientName"] == (name,)


def test_what_is_asked_for_in_utf_8_is_understood(tmp_path: Path) -> None:
    named = make_instance(SpecificCharacterSet="ISO_IR 192", PatientID="Ä-1")
    with QueryArchive(tmp_path / "archive") as archive:
        scanner.send([write(named, tmp_path / "1.dcm")], HOST, archive.port)
        for patient_id, count in (("Ä-1", 1), ("A-1", 0)):
            keys = {"PatientID": patient_id, "StudyInstanceUID": ""}
            assert len(find(address(archive), Level.STUDY, keys).matches) == count


# ---------------------------------------------------------------- what goes wrong


@pytest.mark.parametrize(
    ("status", "retryable"),
    [
        (0xA700, True),
        (0xA900, False),
        (0xC001, False),
        (0x0122, False),
        (0xFE00, True),
        (0x0110, True),
    ],
)
def test_a_failure_is_an_error_with_its_status(
    archives: MakeArchive, status: int, retryable: bool
) -> None:
    archive = archives(query_faults.RefusingQueryArchive, status=status)
    with pytest.raises(PeerRefused, match=f"answered 0x{status:04X} to a C-FIND") as refused:
        series_of(archive)
    assert (refused.value.status, refused.value.retryable) == (status, retryable)


def test_a_peer_without_c_find_refuses_it(tmp_path: Path) -> None:
    with (
        Archive(tmp_path) as archive,
        pytest.raises(PeerRefused, match="accepts no Study Root Query/Retrieve") as refused,
    ):
        find(address(archive), Level.STUDY, {"StudyInstanceUID": ""})
    assert not refused.value.retryable


@pytest.mark.parametrize("after", [0, 3])
@pytest.mark.parametrize(
    "kind", [query_faults.SilentQueryArchive, query_faults.AbortingQueryArchive]
)
def test_a_peer_that_ends_before_its_answer_is_unreachable(
    archives: MakeArchive, kind: type[QueryArchive], after: int
) -> None:
    archive = archives(kind, after=after)
    with pytest.raises(PeerUnreachable, match="broke the association, or was silent for 1 s"):
        images(archive, timeout_s=1)


@pytest.mark.parametrize("kind", [faults.RejectingArchive, faults.DeafArchive])
def test_a_peer_without_an_association_is_unreachable(tmp_path: Path, kind: type[Archive]) -> None:
    with kind(tmp_path) as archive, pytest.raises(PeerUnreachable):
        find(address(archive, 0.5), Level.STUDY, {"StudyInstanceUID": ""})


def test_an_answer_that_cannot_be_read_is_an_error(archives: MakeArchive) -> None:
    class Garbled(QueryArchive):
        """Says that (0028,0010) Rows has three bytes, and it has two."""

        def encoded(self, inquiry: Inquiry, identifier: Dataset) -> bytes:
            return super().encoded(inquiry, identifier) + b"\x28\0\x10\0US\x03\0abc"

    with pytest.raises(DeliveryError, match="answers a C-FIND with what cannot be read") as broken:
        series_of(archives(Garbled))
    assert not broken.value.retryable


def test_the_last_answer_before_an_abort_is_not_lost(archives: MakeArchive) -> None:
    class Hasty(QueryArchive):
        """Breaks the association as soon as it has said everything."""

        def _find(self, inquiry: Inquiry) -> None:
            super()._find(inquiry)
            inquiry.association.abort()

    archive = archives(Hasty)
    for _ in range(5):
        assert images(archive) == (5, True)


# ---------------------------------------------------------------- how much the sender has


def test_the_senders_own_numbers_are_taken_where_it_tells_them(archives: MakeArchive) -> None:
    count = count_at_sender(address(archives()), STUDY)
    assert (count.series_count, count.instance_count, count.is_consistent) == (2, 8, True)
    assert (count.stated_series_count, count.stated_instance_count) == (2, 8)
    assert counts_of(count) == {CT_SERIES: (5, False), MR_SERIES: (3, False)}
    assert [series.modality for series in count.series] == ["CT", "MR"]


def test_instances_are_listed_where_the_sender_tells_no_numbers(archives: MakeArchive) -> None:
    count = count_at_sender(address(archives(tells_counts=False)), STUDY)
    assert (count.stated_series_count, count.stated_instance_count) == (None, None)
    assert counts_of(count) == {CT_SERIES: (5, True), MR_SERIES: (3, True)}


def test_numbers_that_contradict_each_other_make_us_count(archives: MakeArchive) -> None:
    count = count_at_sender(address(archives(query_faults.MiscountingQueryArchive)), STUDY)
    assert (count.stated_instance_count, count.instance_count) == (9, 8)
    assert not count.is_consistent
    assert counts_of(count) == {CT_SERIES: (5, True), MR_SERIES: (3, True)}


def test_a_study_that_the_sender_does_not_know_counts_nothing(archives: MakeArchive) -> None:
    count = count_at_sender(address(archives()), "1.2.3")
    assert (count.series_count, count.instance_count) == (0, 0)


def test_a_sender_that_answers_of_other_studies_is_not_believed_that(
    archives: MakeArchive,
) -> None:
    class Talkative(QueryArchive):
        """Adds a study and its series that nobody asked for."""

        def matches(self, inquiry: Inquiry) -> Iterator[Dataset]:
            for match in super().matches(inquiry):
                yield match
                other = Dataset()
                other.update(match)
                other.StudyInstanceUID = "1.2.3"
                other.SeriesInstanceUID = "1.2.3.4"
                yield other

    assert count_at_sender(address(archives(Talkative)), STUDY).instance_count == 8


# ---------------------------------------------------------------- priors


def test_the_studies_of_a_patient_are_found_with_what_chooses_among_them(
    archives: MakeArchive,
) -> None:
    archive = archives()
    [study] = find_priors(address(archive), "SYN-1", study_date="20240101-20240301")
    assert (study.study_instance_uid, study.study_date) == (STUDY, "20240102")
    assert (study.modalities, study.study_description) == (("CT", "MR"), "Synthetic study")
    assert study.body_parts == ("CHEST", "HEAD")
    assert (study.series_count, study.instance_count) == (2, 8)
    assert find_priors(address(archive), "SYN-1", study_date="-20231231") == []


@pytest.mark.parametrize("patient_id", ["SYN-2", "SYN-*", "SYN-?"])
def test_another_patient_id_finds_nothing(archives: MakeArchive, patient_id: str) -> None:
    assert find_priors(address(archives()), patient_id) == []


@pytest.mark.parametrize(
    ("held", "wanted", "count"),
    [("HERE", "HERE", 1), ("HERE", "", 1), ("", "HERE", 1), ("HERE", "THERE", 0)],
)
def test_another_issuer_is_another_patient(
    tmp_path: Path, held: str, wanted: str, count: int
) -> None:
    file = write(make_instance(IssuerOfPatientID=held), tmp_path / "1.dcm")
    with QueryArchive(tmp_path / "archive") as archive:
        scanner.send([file], HOST, archive.port)
        assert len(find_priors(address(archive), "SYN-1", wanted)) == count


@pytest.mark.parametrize("patient_id", ["", " ", "*", "**"])
def test_an_empty_patient_id_asks_nobody(patient_id: str) -> None:
    assert find_priors(Address(HOST, 1, "NOBODY", "DICOM_NODE"), patient_id) == []
