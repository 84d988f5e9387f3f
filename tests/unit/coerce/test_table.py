"""Every row of PS3.15 Table E.1-1: what was in it does not survive."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module

import pytest
from pydicom.datadict import dictionary_has_tag, dictionary_VR, keyword_for_tag
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.tag import Tag

from dicom_node.coerce import columns
from dicom_node.coerce.profile import Option
from dicom_node.coerce.table import EDITION, Action, basic_actions, table_for
from tests.factories import make_instance
from tests.unit.coerce.copies import bytes_of, copy_of

ROWS: list[tuple[int, ...]] = import_module(
    f"dicomanonymizer.dicom_anonymization_databases.dicomfields_{EDITION}"
).ALL_TAGS
SINGLE = [row[0] << 16 | row[1] for row in ROWS if len(row) == 2 and row[0] > 0x0004]

UID = "1.2.3.99.4711"
MARKS: dict[str, tuple[object, bytes]] = {
    "AE": ("MARKED", b"MARKED"),
    "AS": ("077Y", b"077Y"),
    "CS": ("MARKED", b"MARKED"),
    "DA": ("20230517", b"20230517"),
    "DS": ("4711.25", b"4711.25"),
    "DT": ("20230517010203", b"20230517"),
    "IS": ("471125", b"471125"),
    "OB": (b"MARKED", b"MARKED"),
    "TM": ("010203.4711", b"010203.4711"),
    "UI": (UID, UID.encode()),
    "UN": (b"MARKED", b"MARKED"),
    "UR": ("http://marked", b"marked"),
    "US": (0x4D4B, b"KM"),
}
TEXT = ("MARKED", b"MARKED")


def element(tag: int) -> tuple[DataElement, bytes]:
    """Return an element whose value can be found again, and what to look for."""
    vr = dictionary_VR(tag) if dictionary_has_tag(tag) else "LO"
    if vr == "SQ":
        item = Dataset()
        item.PatientComments = "MARKED"
        item.ReferencedSOPInstanceUID = UID
        return DataElement(Tag(tag), vr, Sequence([item])), b"MARKED"
    value, mark = MARKS.get(vr, TEXT)
    return DataElement(Tag(tag), vr, value), mark


def with_row(tag: int, *, nested: bool) -> tuple[Dataset, bytes]:
    added, mark = element(tag)
    dataset = make_instance(StudyDate="20240102")
    if not nested:
        dataset.add(added)
        return dataset, mark
    item, outer = Dataset(), Dataset()
    item.add(added)
    outer.PurposeOfReferenceCodeSequence = Sequence([item])
    dataset.ReferencedSeriesSequence = Sequence([outer])
    return dataset, mark


def names() -> Iterator[str]:
    for tag in SINGLE:
        yield keyword_for_tag(tag) or f"{tag:08X}"


def test_the_table_is_whole() -> None:
    assert len(SINGLE) > 600
    assert set(SINGLE) <= set(basic_actions())


@pytest.mark.parametrize("nested", [False, True], ids=["top", "nested"])
@pytest.mark.parametrize("tag", SINGLE, ids=names())
def test_no_value_of_a_row_survives(tag: int, nested: bool) -> None:
    dataset, mark = with_row(tag, nested=nested)
    assert mark in bytes_of(dataset)
    sent = bytes_of(copy_of(dataset))
    assert mark not in sent
    assert UID.encode() not in sent


@pytest.mark.parametrize(
    ("option", "column", "action"),
    [
        (Option.RETAIN_PATIENT_CHARACTERISTICS, columns.KEPT_PATIENT_CHARACTERISTICS, Action.KEEP),
        (
            Option.RETAIN_PATIENT_CHARACTERISTICS,
            columns.CLEANED_PATIENT_CHARACTERISTICS,
            Action.CLEAN,
        ),
        (Option.RETAIN_DEVICE_IDENTITY, columns.KEPT_DEVICE_IDENTITY, Action.KEEP),
        (Option.RETAIN_INSTITUTION_IDENTITY, columns.KEPT_INSTITUTION_IDENTITY, Action.KEEP),
        (Option.CLEAN_DESCRIPTORS, columns.CLEANED_DESCRIPTORS, Action.CLEAN),
    ],
)
def test_an_option_touches_its_own_rows_of_the_table_and_no_other(
    option: Option, column: frozenset[int], action: Action
) -> None:
    basic, table = basic_actions(), table_for(frozenset({option}))
    for tag in column:
        assert tag in basic
        assert table.action(tag, "LO") is action
    unchanged = set(basic) - columns.CLEANED_PATIENT_CHARACTERISTICS - column
    if option is Option.RETAIN_PATIENT_CHARACTERISTICS:
        unchanged -= columns.KEPT_PATIENT_CHARACTERISTICS
    assert all(table.action(tag, "LO") is basic[tag] for tag in unchanged)


@pytest.mark.parametrize(
    ("keyword", "options", "action"),
    [
        ("StudyDate", [], Action.EMPTY),
        ("SeriesTime", [], Action.DUMMY),
        ("StudyDate", [Option.RETAIN_LONGITUDINAL_FULL_DATES], Action.KEEP),
        ("StudyDate", [Option.RETAIN_LONGITUDINAL_MODIFIED_DATES], Action.SHIFT),
        ("PatientBirthDate", [Option.RETAIN_LONGITUDINAL_FULL_DATES], Action.EMPTY),
        ("TimezoneOffsetFromUTC", [Option.RETAIN_LONGITUDINAL_FULL_DATES], Action.KEEP),
        ("TimezoneOffsetFromUTC", [Option.RETAIN_LONGITUDINAL_MODIFIED_DATES], Action.REMOVE),
        ("SOPInstanceUID", [], Action.MAP_UID),
        ("SOPInstanceUID", [Option.RETAIN_UIDS], Action.KEEP),
        ("DigitalSignatureUID", [Option.RETAIN_UIDS], Action.MAP_UID),
        ("DeviceUID", [Option.RETAIN_DEVICE_IDENTITY], Action.KEEP),
        ("ContentSequence", [], Action.DUMMY),
        ("ContentSequence", [Option.CLEAN_STRUCTURED_CONTENT], Action.KEEP),
        ("SecondaryReviewerName", [], Action.EMPTY),  # a person's name that is not in the table
        ("SecondaryReviewDate", [], Action.DUMMY),
        ("Rows", [], Action.KEEP),
    ],
)
def test_actions_by_option(keyword: str, options: list[Option], action: Action) -> None:
    tag = Tag(keyword)
    assert table_for(frozenset(options)).action(tag, dictionary_VR(tag)) is action
