"""C-FIND as a function from a request to replies, over a ledger and headers."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset

from dicom_node.data_sets import decode, encode
from dicom_node.errors import StorageError, StudyUnusable
from dicom_node.model import Instance
from dicom_node.protocol.command import CommandField, Element
from dicom_node.receive.query import QueryService
from dicom_node.receive.query_keys import HEADER_KEYS, KEYS, PATIENT_ROOT, STUDY_ROOT
from tests.conftest import ROOT as REPOSITORY
from tests.factories import CT_SERIES, ROOT, STUDY, XRAY_SERIES, make_instance, make_xray
from tests.unit.ledger import rows
from tests.unit.receive.data_sets import BIG_ENDIAN, EXPLICIT, IMPLICIT
from tests.unit.receive.requests import Answer, Archive, a_data_set, a_request, answer

CT_IMAGE_STORAGE = "1.2.840.10008.5.1.4.1.1.2"
CR_IMAGE_STORAGE = "1.2.840.10008.5.1.4.1.1.1"
OTHER_STUDY = f"{ROOT}.9"


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[Archive]:
    """Return an archive with one study: three CT slices and an X-ray."""
    ledger = rows.new_ledger(tmp_path)
    archive = Archive(ledger)
    archive.keep(*(make_instance(number=number) for number in (1, 2, 3)), make_xray())
    yield archive
    ledger.close()


def find(
    archive: Archive,
    level: str,
    *,
    root: str = STUDY_ROOT,
    syntax: str = EXPLICIT,
    limits: dict[str, int] | None = None,
    **keys: Any,
) -> Answer:
    identifier = a_data_set(QueryRetrieveLevel=level, **keys)
    service = QueryService(
        archive.ledger,
        "DICOM_NODE",
        archive.caught_up,
        archive.read_header,
        **(limits or {}),
    )
    return answer(service, a_request(CommandField.C_FIND, root, identifier, syntax=syntax))


def another_study(number: int, **changes: Any) -> Dataset:
    study = f"{OTHER_STUDY}.{number}"
    given = {"StudyInstanceUID": study, "SeriesInstanceUID": f"{study}.1"}
    return make_instance(**(given | changes))


# ---------------------------------------------------------------- what is answered


@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT, BIG_ENDIAN])
def test_a_study_is_answered_with_all_that_a_sender_wants_to_check(
    syntax: str, archive: Archive
) -> None:
    found = find(
        archive,
        "STUDY",
        syntax=syntax,
        StudyInstanceUID=STUDY,
        NumberOfStudyRelatedSeries=None,
        NumberOfStudyRelatedInstances=None,
        SOPClassesInStudy=None,
        ModalitiesInStudy=None,
        InstanceAvailability=None,
        PatientName=None,
        StudyDate=None,
        AccessionNumber=None,
    )
    assert found.statuses == [0xFF00, 0]
    [study] = found.data_sets
    assert study.QueryRetrieveLevel == "STUDY"
    assert study.StudyInstanceUID == STUDY
    assert study.NumberOfStudyRelatedSeries == 2
    assert study.NumberOfStudyRelatedInstances == 4
    assert sorted(study.SOPClassesInStudy) == [CR_IMAGE_STORAGE, CT_IMAGE_STORAGE]
    assert list(study.ModalitiesInStudy) == ["CR", "CT"]
    assert study.InstanceAvailability == "ONLINE"
    assert study.RetrieveAETitle == "DICOM_NODE"
    assert study.PatientName == "Synthetic^Patient"
    assert (study.StudyDate, study.AccessionNumber) == ("20240102", "A0001")
    assert "SpecificCharacterSet" not in study


def test_series_are_counted_each(archive: Archive) -> None:
    found = find(
        archive,
        "SERIES",
        StudyInstanceUID=STUDY,
        SeriesInstanceUID=None,
        Modality=None,
        SeriesNumber=None,
        NumberOfSeriesRelatedInstances=None,
    )
    told = {
        str(series.SeriesInstanceUID): (series.Modality, series.NumberOfSeriesRelatedInstances)
        for series in found.data_sets
    }
    assert told == {CT_SERIES: ("CT", 3), XRAY_SERIES: ("CR", 1)}
    assert all(series.SeriesNumber == 1 for series in found.data_sets)


def test_instances_are_told_with_class_and_syntax(archive: Archive) -> None:
    found = find(
        archive,
        "IMAGE",
        StudyInstanceUID=STUDY,
        SeriesInstanceUID=CT_SERIES,
        SOPInstanceUID=None,
        SOPClassUID=None,
        AvailableTransferSyntaxUID=None,
        InstanceNumber=None,
        Rows=None,
    )
    assert found.status == 0
    assert [str(one.SOPInstanceUID) for one in found.data_sets] == [
        f"{CT_SERIES}.{number}" for number in (1, 2, 3)
    ]
    assert [one.InstanceNumber for one in found.data_sets] == [1, 2, 3]
    assert {str(one.SOPClassUID) for one in found.data_sets} == {CT_IMAGE_STORAGE}
    assert {str(one.AvailableTransferSyntaxUID) for one in found.data_sets} == {EXPLICIT}
    assert {one.Rows for one in found.data_sets} == {64}


def test_uids_and_counts_are_answered_without_reading_a_header(archive: Archive) -> None:
    find(archive, "STUDY", StudyInstanceUID=None, NumberOfStudyRelatedInstances=None)
    find(archive, "IMAGE", StudyInstanceUID=STUDY, SeriesInstanceUID=CT_SERIES, SOPInstanceUID="")
    assert archive.headers_read == []


def test_each_header_is_read_once_for_a_query(archive: Archive) -> None:
    find(archive, "SERIES", StudyInstanceUID=STUDY, PatientName="Syn*", ModalitiesInStudy=None)
    assert sorted(archive.headers_read) == [f"{CT_SERIES}.1", f"{XRAY_SERIES}.1"]


def test_a_key_that_we_do_not_know_is_left_out_and_the_status_says_so(archive: Archive) -> None:
    found = find(archive, "STUDY", StudyInstanceUID=STUDY, OtherStudyNumbers=None)
    assert found.statuses == [0xFF01, 0]
    assert "OtherStudyNumbers" not in found.data_sets[0]


def test_a_key_of_a_lower_level_is_not_answered_with_any_ones_value(archive: Archive) -> None:
    found = find(archive, "STUDY", StudyInstanceUID=STUDY, InstanceNumber=None)
    assert found.statuses == [0xFF01, 0]
    assert "InstanceNumber" not in found.data_sets[0]


@pytest.mark.parametrize("error", [StudyUnusable("broken"), StorageError("gone"), OSError(5, "io")])
def test_a_header_that_cannot_be_read_leaves_its_values_empty(
    error: Exception, archive: Archive
) -> None:
    def fail(instance: Instance) -> Dataset:
        raise error

    archive.read_header = fail  # type: ignore[method-assign]
    found = find(archive, "STUDY", StudyInstanceUID=STUDY, PatientName=None)
    assert found.statuses == [0xFF00, 0]
    assert not found.data_sets[0].PatientName
    assert found.data_sets[0].StudyInstanceUID == STUDY


def test_a_stored_value_that_cannot_be_sent_costs_no_more_than_itself(archive: Archive) -> None:
    odd = another_study(1)
    odd.add_new("SeriesNumber", "LO", "seven")
    archive.keep(odd)
    found = find(
        archive,
        "SERIES",
        StudyInstanceUID=str(odd.StudyInstanceUID),
        SeriesNumber=None,
        Modality=None,
    )
    assert found.statuses == [0xFF00, 0]
    assert found.data_sets[0].SeriesNumber is None
    assert found.data_sets[0].Modality == "CT"


# ---------------------------------------------------------------- matching


@pytest.mark.parametrize(
    "keys",
    [
        {"StudyInstanceUID": [STUDY, "1.2.3"]},
        {"StudyInstanceUID": "*"},
        {"PatientName": "synthetic^PATIENT"},
        {"PatientName": "Syn*"},
        {"PatientID": "SYN-?"},
        {"StudyDate": "20240101-20240131"},
        {"StudyTime": "10-11"},
        {"ModalitiesInStudy": "CR"},
        {"AccessionNumber": "A0001", "StudyDescription": "*study"},
        {"SOPClassesInStudy": CT_IMAGE_STORAGE},
        {"InstanceAvailability": "ONLINE"},
    ],
)
def test_a_study_that_matches_is_found(keys: dict[str, Any], archive: Archive) -> None:
    found = find(archive, "STUDY", **keys)
    assert found.statuses == [0xFF00, 0]


@pytest.mark.parametrize(
    "keys",
    [
        {"StudyInstanceUID": "1.2.3"},
        {"PatientName": "Doe*"},
        {"PatientID": "syn-1"},
        {"StudyDate": "20250101-"},
        {"ModalitiesInStudy": "MR"},
        {"AccessionNumber": "A0001", "StudyDescription": "head"},
        {"SOPClassesInStudy": "1.2.3"},
        {"RetrieveAETitle": "ANOTHER"},
    ],
)
def test_a_study_that_does_not_match_is_not(keys: dict[str, Any], archive: Archive) -> None:
    found = find(archive, "STUDY", **keys)
    assert found.statuses == [0]


def test_a_study_without_a_value_matches_any(archive: Archive) -> None:
    archive.keep(another_study(1, AccessionNumber=""))
    found = find(archive, "STUDY", StudyInstanceUID=None, AccessionNumber="X9")
    assert [str(study.StudyInstanceUID) for study in found.data_sets] == [f"{OTHER_STUDY}.1"]


def test_an_asterisk_for_a_number_is_taken_for_anything(archive: Archive) -> None:
    element = bytes.fromhex("20001300495302002a20")  # (0020,0013) IS "* "
    identifier = a_data_set(
        QueryRetrieveLevel="IMAGE", StudyInstanceUID=STUDY, SeriesInstanceUID=CT_SERIES
    )
    service = QueryService(archive.ledger, "US", archive.caught_up, archive.read_header)
    body = encode(identifier, EXPLICIT) + element
    found = answer(service, a_request(CommandField.C_FIND, STUDY_ROOT, body))
    assert found.statuses == [0xFF00, 0xFF00, 0xFF00, 0]


# ---------------------------------------------------------------- patients


def test_patients_are_each_told_once(archive: Archive) -> None:
    archive.keep(another_study(1), another_study(2, PatientID="SYN-2", PatientName="Doe^Jane"))
    archive.keep(another_study(3, PatientID=""))
    found = find(archive, "PATIENT", root=PATIENT_ROOT, PatientID=None, PatientName=None)
    told = {(str(one.PatientID), str(one.PatientName)) for one in found.data_sets}
    assert told == {("SYN-1", "Synthetic^Patient"), ("SYN-2", "Doe^Jane")}
    assert found.statuses == [0xFF00, 0xFF00, 0]


def test_below_a_patient_only_his_studies_are_found(archive: Archive) -> None:
    archive.keep(another_study(2, PatientID="SYN-2"))
    found = find(archive, "STUDY", root=PATIENT_ROOT, PatientID="SYN-2", StudyInstanceUID=None)
    assert [str(one.StudyInstanceUID) for one in found.data_sets] == [f"{OTHER_STUDY}.2"]
    series = find(archive, "SERIES", root=PATIENT_ROOT, PatientID="SYN-2", StudyInstanceUID=STUDY)
    assert series.statuses == [0]


# ---------------------------------------------------------------- character sets


@pytest.mark.parametrize(
    ("stored", "name", "pattern"),
    [
        ("ISO_IR 192", "Yamada^Tarou=山田^太郎", "*山田*"),
        (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎", "=山田*"),
        ("ISO_IR 100", "Müller^Jörg", "müller*"),
        ("ISO_IR 144", "Люкceмбypг", "Люк*"),
    ],
)
@pytest.mark.parametrize("asked", ["ISO_IR 192", "ISO_IR 100", None])
def test_names_are_matched_and_told_in_any_character_set(
    stored: str | list[str], name: str, pattern: str, asked: str | None, archive: Archive
) -> None:
    kept = another_study(1, SpecificCharacterSet=stored, PatientName=name)
    archive.keep(decode(encode(kept, EXPLICIT), EXPLICIT))
    keys: dict[str, Any] = {"PatientName": None}
    if asked == "ISO_IR 192" or (asked == "ISO_IR 100" and stored == "ISO_IR 100"):
        keys["PatientName"] = pattern
    if asked is not None:
        keys = {"SpecificCharacterSet": asked} | keys
    uid = str(kept.StudyInstanceUID)
    [study] = find(archive, "STUDY", StudyInstanceUID=uid, **keys).data_sets
    assert study.PatientName == name
    can_say = asked == "ISO_IR 192" or asked == stored
    expected = asked if can_say and asked else stored
    assert study.SpecificCharacterSet == expected


def test_a_name_that_was_stored_without_its_character_set_goes_out_as_utf_8(
    archive: Archive,
) -> None:
    kept = another_study(1, SpecificCharacterSet="ISO_IR 100", PatientName="Müller")
    del kept.SpecificCharacterSet
    archive.keep(kept)
    uid = str(kept.StudyInstanceUID)
    [study] = find(archive, "STUDY", StudyInstanceUID=uid, PatientName=None).data_sets
    assert (study.SpecificCharacterSet, study.PatientName) == ("ISO_IR 192", "Müller")


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("level", "root", "keys", "offending"),
    [
        ("", STUDY_ROOT, {}, 0x00080052),
        ("NONSENSE", STUDY_ROOT, {}, 0x00080052),
        ("PATIENT", STUDY_ROOT, {}, 0x00080052),
        ("SERIES", STUDY_ROOT, {}, 0x0020000D),
        ("SERIES", STUDY_ROOT, {"StudyInstanceUID": "*"}, 0x0020000D),
        ("SERIES", STUDY_ROOT, {"StudyInstanceUID": ["1.2", "1.3"]}, 0x0020000D),
        ("IMAGE", STUDY_ROOT, {"StudyInstanceUID": STUDY}, 0x0020000E),
        ("STUDY", PATIENT_ROOT, {}, 0x00100020),
    ],
)
def test_an_identifier_of_no_use_is_refused_and_says_which_attribute(
    level: str, root: str, keys: dict[str, Any], offending: int, archive: Archive
) -> None:
    found = find(archive, level, root=root, **keys)
    assert found.statuses == [0xA900]
    assert found.comment
    element = found.replies[0].fields[Element.OFFENDING_ELEMENT]
    assert element == struct.pack("<HH", offending >> 16, offending & 0xFFFF)


def test_another_operation_of_the_sop_class_is_refused(archive: Archive) -> None:
    service = QueryService(archive.ledger, "US", archive.caught_up, archive.read_header)
    assert answer(service, a_request(CommandField.C_MOVE, STUDY_ROOT)).statuses == [0x0211]


def test_another_sop_class_than_that_of_the_context_is_refused(archive: Archive) -> None:
    service = QueryService(archive.ledger, "US", archive.caught_up, archive.read_header)
    request = a_request(
        CommandField.C_FIND, STUDY_ROOT, affected_sop_class_uid=PATIENT_ROOT.encode() + b"\0"
    )
    assert answer(service, request).statuses == [0x0122]


def test_nothing_is_answered_while_the_ledger_is_behind(archive: Archive) -> None:
    archive.is_caught_up = False
    found = find(archive, "STUDY", StudyInstanceUID=STUDY)
    assert found.statuses == [0xA700]


def test_a_ledger_that_fails_is_out_of_resources_and_no_exception(archive: Archive) -> None:
    def fail() -> bool:
        raise StorageError("the ledger failed: some words of the database")

    service = QueryService(archive.ledger, "US", fail, archive.read_header)
    found = answer(
        service, a_request(CommandField.C_FIND, STUDY_ROOT, a_data_set(QueryRetrieveLevel="STUDY"))
    )
    assert found.statuses == [0xA700]
    assert "database" not in found.comment


# ---------------------------------------------------------------- bounds


def test_the_newest_studies_come_first(archive: Archive) -> None:
    archive.keep(*(another_study(number) for number in (1, 2)))
    archive.keep(make_instance(number=4))
    found = find(archive, "STUDY", StudyInstanceUID=None)
    assert [str(study.StudyInstanceUID) for study in found.data_sets] == [
        STUDY,
        f"{OTHER_STUDY}.2",
        f"{OTHER_STUDY}.1",
    ]


def test_too_many_matches_end_in_out_of_resources(archive: Archive) -> None:
    archive.keep(*(another_study(number) for number in range(1, 5)))
    found = find(archive, "STUDY", limits={"matches_max": 3}, StudyInstanceUID=None)
    assert found.statuses == [0xFF00] * 3 + [0xA700]
    assert "more than 3 matches" in found.comment
    just = find(archive, "STUDY", limits={"matches_max": 5}, StudyInstanceUID=None)
    assert just.statuses == [0xFF00] * 5 + [0]


def test_a_series_of_any_size_is_told_whole(archive: Archive) -> None:
    found = find(
        archive,
        "IMAGE",
        limits={"matches_max": 1},
        StudyInstanceUID=STUDY,
        SeriesInstanceUID=CT_SERIES,
    )
    assert found.statuses == [0xFF00] * 3 + [0]


def test_of_many_studies_only_the_newest_headers_are_read(archive: Archive) -> None:
    archive.keep(*(another_study(number) for number in range(1, 5)))
    found = find(archive, "STUDY", limits={"studies_max": 2}, PatientName="Nobody")
    assert found.statuses == [0xA700]
    assert len(archive.headers_read) == 2
    named = find(archive, "STUDY", limits={"studies_max": 2}, StudyInstanceUID=STUDY)
    assert named.statuses == [0xFF00, 0]


def test_a_query_that_is_cancelled_ends_soon(archive: Archive) -> None:
    archive.keep(*(another_study(number) for number in range(1, 5)))
    asked = count()
    request = a_request(
        CommandField.C_FIND,
        STUDY_ROOT,
        a_data_set(QueryRetrieveLevel="STUDY", StudyInstanceUID=None),
        cancelled=lambda: next(asked) >= 2,
    )
    service = QueryService(archive.ledger, "US", archive.caught_up, archive.read_header)
    assert answer(service, request).statuses == [0xFF00, 0xFF00, 0xFE00]


# ---------------------------------------------------------------- words


def test_every_key_stands_in_the_conformance_statement() -> None:
    text = (REPOSITORY / "docs" / "conformance.md").read_text("utf-8")
    assert len(HEADER_KEYS) > 30
    assert [keyword for keyword in KEYS if keyword not in text] == []


def test_no_identity_is_logged(archive: Archive, capsys: pytest.CaptureFixture[str]) -> None:
    find(archive, "STUDY", PatientName="Synthetic*", PatientID="SYN-1", AccessionNumber="A0001")
    find(archive, "SERIES", StudyInstanceUID="Doe^Jane", PatientName="Doe^Jane")
    written = capsys.readouterr()
    told = written.out + written.err
    assert "query_answered" in told
    assert not any(word in told for word in ("Synthetic", "SYN-1", "A0001", "Doe"))
