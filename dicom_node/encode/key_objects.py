"""Finding to Key Object Selection: the images that carry it, and its other results (A.35.4)."""

from __future__ import annotations

from collections.abc import Sequence

from highdicom import ko, sr
from highdicom.sr.utils import collect_evidence
from pydicom.dataset import Dataset
from pydicom.uid import KeyObjectSelectionDocumentStorage

from dicom_node.encode.material import Material
from dicom_node.encode.selection import selecting_device, unname_references
from dicom_node.encode.shell import Shell, references_to
from dicom_node.encode.sources import instances_of
from dicom_node.finding import QualityGrade

_OF_INTEREST = sr.CodedConcept("113000", "DCM", "Of Interest")  # CID 7010
_QUALITY_ISSUE = sr.CodedConcept("113010", "DCM", "Quality Issue")


def make_key_objects(material: Material, others: Sequence[Dataset]) -> Dataset | None:
    """Return the selection of what a reader should open first; times not yet set.

    Parameters
    ----------
    others : sequence of Dataset
        The other objects of the same tree, each of which is referenced after the images.

    Returns
    -------
    Dataset or None
        None where no image carries anything: nothing is of interest then.

    References
    ----------
    PS3.3 A.35.4; PS3.16 TID 2010, CID 7010
    """
    if not material.key_slices.carry:
        return None
    images = instances_of([material.copies[index] for index in material.key_slices.indices])
    named = sorted(str(other.SOPInstanceUID) for other in others)
    made = Shell(material, "KO", KeyObjectSelectionDocumentStorage, "KO", *named)
    content = ko.KeyObjectSelection(
        document_title=_title(material),
        referenced_objects=[*images, *others],
        observer_device_context=selecting_device(material.finding.engine, material.stamp),
        description=f"{material.engine_line}: {material.finding.summary}"[:1024],
    )
    for element in content[0]:
        made.add(element)
    evidence, _ = collect_evidence([*images, *others], content[0], made.StudyInstanceUID)
    made.CurrentRequestedProcedureEvidenceSequence = evidence
    made.ReferencedPerformedProcedureStepSequence = []
    unname_references(made)
    _name_frames(made, material)
    return made


def _name_frames(made: Dataset, material: Material) -> None:
    """Select frames of a multi-frame image, not all of it (PS3.3 C.18.4)."""
    frames = {
        str(one.ReferencedSOPInstanceUID): one.ReferencedFrameNumber
        for one in references_to(material.sources[index] for index in material.key_slices.indices)
        if "ReferencedFrameNumber" in one
    }
    for content in made.ContentSequence:
        for selected in content.get("ReferencedSOPSequence", ()):
            if selected.ReferencedSOPInstanceUID in frames:
                selected.ReferencedFrameNumber = frames[selected.ReferencedSOPInstanceUID]


def _title(material: Material) -> sr.CodedConcept:
    grades = [said.grade for said in material.finding.qualities]
    amiss = any(grade is not QualityGrade.DIAGNOSTIC for grade in grades)
    return _QUALITY_ISSUE if amiss else _OF_INTEREST
