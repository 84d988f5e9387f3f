"""Results for copies come back to the study that the copies were made of."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset

from dicom_node.coerce.coercion import apply
from dicom_node.coerce.profile import Option, Profile
from dicom_node.coerce.restore import restore
from dicom_node.encode.results import encode
from dicom_node.errors import StudyUnusable
from dicom_node.headers import read_header
from dicom_node.ledger.ledger import Ledger
from dicom_node.model import CrosswalkEntry
from tests.factories import make_ct_series, make_instance
from tests.unit.coerce.copies import SECRET, a_profile, bytes_of, copied_file
from tests.unit.encode.findings import STAMP, classification, segmentation
from tests.unit.ledger.rows import new_ledger

DATA = Path(__file__).parents[2] / "data" / "ct-chest-lctsc-011"
DATES = Option.RETAIN_LONGITUDINAL_MODIFIED_DATES


def forward(contents: Sequence[bytes], profile: Profile, ledger: Ledger) -> list[Dataset]:
    """Return the headers of the copies as the receiver has them; the ledger knows of them."""
    headers = []
    for content in contents:
        copied, whole = copied_file(content, profile)
        ledger.crosswalk.record(copied.coerced.crosswalk_entries)
        headers.append(read_header(BytesIO(whole)))
    return headers


def results_for(headers: Sequence[Dataset]) -> list[Dataset]:
    """Return a SEG and an SR that a receiver made of copies."""
    mask = np.zeros((len(headers), headers[0].Rows, headers[0].Columns), np.uint8)
    mask[1:, 10:50, 10:50] = 1
    encoded = encode(segmentation(headers, mask), headers, STAMP)
    return [pydicom.dcmread(BytesIO(one.content)) for one in encoded]


def all_uids(dataset: Dataset) -> set[str]:
    return {str(element.value) for element in dataset.iterall() if element.VR == "UI"}


def test_results_for_a_real_series_return_to_it_by_way_of_the_ledger(tmp_path: Path) -> None:
    originals = [path.read_bytes() for path in sorted(DATA.glob("*.dcm"))[:4]]
    headers = [read_header(BytesIO(content)) for content in originals]
    first = headers[0]
    ledger = new_ledger(tmp_path)
    copies = forward(originals, a_profile(DATES), ledger)
    assert not all_uids(copies[0]) & {first.StudyInstanceUID, first.SOPInstanceUID}
    results = results_for(copies)
    assert len(results) == 2
    for result in results:
        found = ledger.crosswalk.find(result.StudyInstanceUID)
        back = restore(result, found)
        for keyword in (
            *("StudyInstanceUID", "PatientID", "PatientName", "PatientBirthDate", "PatientSex"),
            *("AccessionNumber", "StudyDate", "StudyTime", "StudyID", "ReferringPhysicianName"),
        ):
            assert back.get(keyword, "") == first.get(keyword, ""), keyword
        assert back.SOPInstanceUID == result.SOPInstanceUID
        assert back.SeriesInstanceUID == result.SeriesInstanceUID
        assert back.ContentDate == "20231114"  # of the result itself
        uids = all_uids(back)
        assert {header.SOPInstanceUID for header in headers[1:]} <= uids
        assert not uids & {
            uid for copy in copies for uid in (copy.SOPInstanceUID, copy.StudyInstanceUID)
        }
        assert "PatientIdentityRemoved" not in back
        assert "PatientIdentityRemoved" in result or result.Modality == "SR"
    seg = next(one for one in results if one.Modality == "SEG")
    back = restore(seg, ledger.crosswalk.find(seg.StudyInstanceUID))
    assert back.FrameOfReferenceUID == first.FrameOfReferenceUID
    assert back.PixelData == seg.PixelData
    ledger.close()


def crossed(
    dataset: Dataset, *options: Option, name: str = "research"
) -> tuple[Dataset, list[CrosswalkEntry]]:
    made = apply(a_profile(*options, name=name), dataset, SECRET)
    return made.dataset, list(made.crosswalk_entries)


def a_result(copy: Dataset) -> Dataset:
    result = Dataset()
    for keyword in ("StudyInstanceUID", "PatientID", "PatientName", "StudyDate"):
        result[keyword] = copy[keyword]
    result.SOPInstanceUID = "1.2.9.1"
    result.ContentDate = "20251231"
    return result


def test_dates_that_a_result_repeats_move_back_and_its_own_stay() -> None:
    copy, entries = crossed(make_instance(), DATES)
    result = a_result(copy)
    result.AcquisitionDateTime = f"{copy.StudyDate}101500"
    back = restore(result, entries)
    assert (back.StudyDate, back.AcquisitionDateTime) == ("20240102", "20240102101500")
    assert back.ContentDate == "20251231"


def test_a_name_that_the_result_cannot_spell_turns_it_to_utf_8() -> None:
    original = make_instance(PatientName="山田^太郎", SpecificCharacterSet="ISO_IR 192")
    copy, entries = crossed(original)
    back = restore(a_result(copy), entries)
    assert back.PatientName == "山田^太郎"
    assert "山田^太郎".encode() in bytes_of(back)


def test_the_first_spelling_of_a_name_is_the_one_that_returns() -> None:
    copy, entries = crossed(make_instance(PatientName="Doe^Jane"))
    _, later = crossed(make_instance(PatientName="DOE^JANE", number=2))
    assert restore(a_result(copy), entries + later).PatientName == "Doe^Jane"


def test_the_patient_says_which_of_two_profiles_that_retain_uids_it_was() -> None:
    one, first = crossed(make_instance(), Option.RETAIN_UIDS, name="a")
    two, second = crossed(make_instance(), Option.RETAIN_UIDS, name="b")
    assert one.StudyInstanceUID == two.StudyInstanceUID
    with pytest.raises(StudyUnusable, match="no copy with the study and the patient"):
        restore(make_instance(), first + second)
    for copy in (one, two):
        assert restore(a_result(copy), first + second).PatientID == "SYN-1"


@pytest.mark.parametrize("case", ["unknown study", "other patient", "the copy itself"])
def test_what_is_no_result_for_a_copy_is_refused(case: str) -> None:
    copy, entries = crossed(make_instance())
    result = a_result(copy)
    if case == "unknown study":
        entries = []
    elif case == "other patient":
        result.PatientID = "X"
    else:
        result.SOPInstanceUID = copy.SOPInstanceUID
    with pytest.raises(StudyUnusable):
        restore(result, entries)


def test_the_result_that_came_is_not_changed() -> None:
    copy, entries = crossed(make_instance(), DATES)
    result = a_result(copy)
    before = bytes_of(result)
    restore(result, entries)
    assert bytes_of(result) == before


def test_a_classification_returns_too() -> None:
    series = make_ct_series(1)
    copy, entries = crossed(series[0])
    copy.file_meta = series[0].file_meta
    [encoded] = encode(classification([copy]), [copy], STAMP)
    result = pydicom.dcmread(BytesIO(encoded.content))
    assert series[0].SOPInstanceUID in all_uids(restore(result, entries))
