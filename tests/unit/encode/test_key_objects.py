"""Key Object Selection: what to open first, and why."""

from __future__ import annotations

from pydicom.dataset import Dataset

from dicom_node.encode.capture import make_captures
from dicom_node.encode.key_objects import make_key_objects
from dicom_node.encode.presentation import make_states
from dicom_node.finding import QualityGrade
from tests.factories import make_ct_series, make_xray
from tests.unit.encode.findings import classification, headers_of, quality, segmentation
from tests.unit.encode.materials import content_of, material_of, written

CT = make_ct_series(6)
LUNGS = material_of(segmentation(headers_of(CT)), CT)
XRAYS = [make_xray(number=1), make_xray(number=2)]


def referenced(document: Dataset) -> list[tuple[str, str]]:
    """Return the objects that the content names, with the value type of each."""
    return [
        (item.ValueType, item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID)
        for item in document.ContentSequence
        if "ReferencedSOPSequence" in item
    ]


def evidence(document: Dataset) -> set[tuple[str, str, str, str]]:
    """Return study, series, class and instance of all that is listed."""
    return {
        (
            study.StudyInstanceUID,
            series.SeriesInstanceUID,
            instance.ReferencedSOPClassUID,
            instance.ReferencedSOPInstanceUID,
        )
        for study in document.CurrentRequestedProcedureEvidenceSequence
        for series in study.ReferencedSeriesSequence
        for instance in series.ReferencedSOPSequence
    }


def test_key_slices_come_first_then_the_other_results_each_with_its_evidence() -> None:
    others = [*make_captures(LUNGS), *make_states(LUNGS)]
    made = make_key_objects(LUNGS, others)
    assert made is not None
    document = written(made, LUNGS)
    [index] = LUNGS.key_slices.indices
    assert referenced(document) == [
        ("IMAGE", CT[index].SOPInstanceUID),
        ("IMAGE", others[0].SOPInstanceUID),
        ("COMPOSITE", others[1].SOPInstanceUID),
    ]
    assert evidence(document) == {
        (one.StudyInstanceUID, one.SeriesInstanceUID, one.SOPClassUID, one.SOPInstanceUID)
        for one in (CT[index], *others)
    }
    assert document.ConceptNameCodeSequence[0].CodeMeaning == "Of Interest"


def test_images_of_poor_quality_are_a_quality_issue() -> None:
    made = make_key_objects(material_of(quality(headers_of(XRAYS)), XRAYS), [])
    assert made is not None
    assert made.ConceptNameCodeSequence[0].CodeMeaning == "Quality Issue"


def test_without_a_finding_nothing_is_of_interest() -> None:
    absent = classification(headers_of(XRAYS), probability=0.1)
    assert make_key_objects(material_of(absent, XRAYS), []) is None
    fine = quality(headers_of(XRAYS), QualityGrade.DIAGNOSTIC)
    assert make_key_objects(material_of(fine, XRAYS), []) is None


def test_a_selection_of_other_objects_is_another_instance() -> None:
    alone, with_state = (make_key_objects(LUNGS, others) for others in ([], make_states(LUNGS)))
    assert alone is not None
    assert with_state is not None
    assert alone.SOPInstanceUID != with_state.SOPInstanceUID
    again = make_key_objects(LUNGS, [])
    assert again is not None
    assert content_of(alone, LUNGS) == content_of(again, LUNGS)
