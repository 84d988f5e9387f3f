"""The rejection note for results that a new revision replaces (PS3.3 A.35.4; PS3.16 TID 2010).

Its title is (113001, DCM, Rejected for Quality Reasons): the old results speak of a part of the
series, or of another content of it, so they are no longer good enough to be read; an archive hides
them and keeps them for who must know what was once said. (113039, DCM, Data Retention Policy
Expired) would say that they are old, which they are not, and would let a late repeat of theirs in
again as if it were new (IHE RAD TF, Imaging Object Change Management).
"""

from __future__ import annotations

from collections.abc import Sequence

from highdicom import ko, sr
from pydicom.dataset import Dataset

from dicom_node.encode.drafts import Draft
from dicom_node.encode.header import Stamp, common_arguments, finish
from dicom_node.encode.results import Encoded, building, encoded_of
from dicom_node.encode.selection import selecting_device, unname_references
from dicom_node.encode.sources import copies_of
from dicom_node.finding import Finding
from dicom_node.model import REJECTION, Result
from dicom_node.uid import derived_uid

_REJECTED = sr.CodedConcept("113001", "DCM", "Rejected for Quality Reasons")  # CID 7010
_SEGMENTATIONS = frozenset({"1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7"})


def rejection_note(
    finding: Finding,
    sources: Sequence[Dataset],
    rejected: Sequence[Result],
    successor: Encoded,
    stamp: Stamp,
) -> Encoded:
    """Return the note that takes results of an earlier revision back.

    Parameters
    ----------
    finding : Finding
        Of the new revision.
    sources : sequence of Dataset
        Its source headers.
    rejected : sequence of Result
        What an archive has of the revision before, at least one.
    successor : Encoded
        The report that stands instead.
    stamp : Stamp
        The job's time and the node.

    Raises
    ------
    InvariantBroken
        If it cannot be built.
    """
    with building(f"the rejection note of {finding.engine.name}"):
        reference = copies_of(sources[:1])[0]
        patient_name = reference.PatientName
        reference.PatientName = ""
        evidence = [_as_evidence(result, reference) for result in rejected]
        content = ko.KeyObjectSelection(
            document_title=_REJECTED,
            referenced_objects=evidence,
            observer_device_context=selecting_device(finding.engine, stamp),
            description=f"The series changed: report {successor.sop_instance_uid} replaces these.",
        )
        named = common_arguments(finding, reference, stamp, REJECTION)
        del named["content_qualification"]  # of images and reports
        named["sop_instance_uid"] = derived_uid(
            "rejection",
            successor.sop_instance_uid,
            *sorted(one.sop_instance_uid for one in rejected),
        )
        note = ko.KeyObjectSelectionDocument(evidence=evidence, content=content, **named)
        unname_references(note)
        finish(note, patient_name, reference, stamp)
        return encoded_of(REJECTION, Draft(note))


def _as_evidence(result: Result, reference: Dataset) -> Dataset:
    """Return a result as highdicom wants what a note refers to: of the patient of the sources."""
    named = Dataset({element.tag: element for element in reference})
    for keyword in ("Rows", "Columns"):
        named.pop(keyword, None)
    named.add_new("SeriesInstanceUID", "UI", result.series_instance_uid)
    named.add_new("SOPInstanceUID", "UI", result.sop_instance_uid)
    named.add_new("SOPClassUID", "UI", result.sop_class_uid)
    if result.sop_class_uid in _SEGMENTATIONS:  # an IMAGE in the tree, else a COMPOSITE
        named.Rows = named.Columns = 1
    return named
