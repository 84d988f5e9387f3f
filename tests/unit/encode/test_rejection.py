"""The rejection note: what it takes back, of whom, and by whose word."""

from __future__ import annotations

from dataclasses import replace

from pydicom.dataset import Dataset

from dicom_node.encode.rejection import rejection_note
from dicom_node.encode.results import Encoded, encode
from dicom_node.model import REJECTION, Result
from dicom_node.multiframe import frames_of
from tests.factories import make_ct_series, make_enhanced
from tests.unit.encode.findings import STAMP, headers_of, read, segmentation

CT = headers_of(make_ct_series(3))


def sent(encoded: Encoded) -> Result:
    """Return the row of a result."""
    return Result(
        sop_instance_uid=encoded.sop_instance_uid,
        sop_class_uid=encoded.sop_class_uid,
        series_instance_uid=encoded.series_instance_uid,
        study_instance_uid=encoded.study_instance_uid,
        transfer_syntax_uid=encoded.transfer_syntax_uid,
        job_id="job",
        kind=encoded.kind,
        path="",
        size_bytes=0,
        digest="",
    )


def note_on(headers: list[Dataset]) -> tuple[list[Result], Encoded]:
    old = [sent(one) for one in encode(segmentation(headers), headers, STAMP)]
    stamp = replace(STAMP, job_key="another", predecessors=(old[-1],))
    new = encode(segmentation(headers), headers, stamp)
    return old, rejection_note(segmentation(headers), headers, old, new[-1], stamp)


def test_it_names_seg_and_sr_each_in_its_series() -> None:
    old, encoded = note_on(CT)
    note = read(encoded)
    assert encoded.kind == REJECTION
    items = [item for item in note.ContentSequence if "ReferencedSOPSequence" in item]
    named = [
        (item.ValueType, item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID) for item in items
    ]
    assert named == [("IMAGE", old[0].sop_instance_uid), ("COMPOSITE", old[1].sop_instance_uid)]
    assert not any("ConceptNameCodeSequence" in item for item in items)
    [study] = note.CurrentRequestedProcedureEvidenceSequence
    listed = {
        (series.SeriesInstanceUID, series.ReferencedSOPSequence[0].ReferencedSOPInstanceUID)
        for series in study.ReferencedSeriesSequence
    }
    assert listed == {(one.series_instance_uid, one.sop_instance_uid) for one in old}


def test_it_is_the_nodes_word_of_the_engine_about_the_same_patient() -> None:
    _, encoded = note_on(CT)
    note = read(encoded)
    assert (note.Modality, note.SOPClassUID) == ("KO", "1.2.840.10008.5.1.4.1.1.88.59")
    assert (note.Manufacturer, note.StationName) == ("dicom_node", "DICOM_NODE")
    assert str(note.PatientName) == "Synthetic^Patient"
    assert (note.ContentDate, note.ContentTime) == ("20231114", "221320.250000")
    assert 6000 <= note.SeriesNumber < 6500
    assert "Lungs on chest CT" in [item.get("TextValue") for item in note.ContentSequence]


def test_the_same_rejection_gives_the_same_bytes() -> None:
    assert note_on(CT)[1].content == note_on(CT)[1].content


def test_results_on_an_enhanced_source_can_be_taken_back() -> None:
    [header] = headers_of([make_enhanced(make_ct_series(3))])
    old, encoded = note_on(frames_of(header))
    assert len(read(encoded).CurrentRequestedProcedureEvidenceSequence) == 1
    assert old[0].sop_instance_uid.encode() in encoded.content
