"""Finding to Comprehensive 3D SR, root template TID 1500 Measurement Report (PS3.3 A.35.13)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from highdicom import SOPClass
from pydicom.dataset import Dataset
from pydicom.uid import Comprehensive3DSRStorage, ExplicitVRLittleEndian

from dicom_node.encode import codes, identity
from dicom_node.encode.content import (
    HAS_CONCEPT_MODIFIER,
    HAS_OBSERVATION_CONTEXT,
    code_item,
    container,
    reference_item,
    template_element,
    text_item,
    uid_item,
)
from dicom_node.encode.drafts import Draft
from dicom_node.encode.explicit import coded, item, sequence, text
from dicom_node.encode.groups import comment, measurement_groups
from dicom_node.encode.header import (
    MANUFACTURER,
    Stamp,
    common_arguments,
    contributing_equipment,
    patient_arguments,
)
from dicom_node.encode.library import image_library
from dicom_node.finding import Code, Finding, Segment

_REPORT = Code("126000", "DCM", "Imaging Measurement Report")
_LANGUAGE = Code("121049", "DCM", "Language of Content Item and Descendants")
_OBSERVER_TYPE = Code("121005", "DCM", "Observer Type")
_DEVICE = Code("121007", "DCM", "Device")
_DEVICE_UID = Code("121012", "DCM", "Device Observer UID")
_DEVICE_NAME = Code("121013", "DCM", "Device Observer Name")
_DEVICE_MANUFACTURER = Code("121014", "DCM", "Device Observer Manufacturer")
_DEVICE_MODEL = Code("121015", "DCM", "Device Observer Model Name")
_DEVICE_SERIAL_NUMBER = Code("121016", "DCM", "Device Observer Serial Number")
_PROCEDURE = Code("121058", "DCM", "Procedure reported")
_MEASUREMENTS = Code("126010", "DCM", "Imaging Measurements")


@dataclass(frozen=True)
class Part:
    """What a report says of one time point."""

    finding: Finding
    drawn: Sequence[Segment]
    """Those that the SEG describes, in its order."""
    copies: Sequence[Dataset]
    """Of its source instances."""
    seg: Dataset | None

    def groups(self) -> list[bytes]:
        """Return its measurement groups."""
        return measurement_groups(self.finding, self.drawn, self.copies, self.seg)


def make_sr(
    finding: Finding,
    drawn: Sequence[Segment],
    copies: Sequence[Dataset],
    seg: Dataset | None,
    stamp: Stamp,
    kind: str = "SR",
    others: Sequence[Dataset] = (),
    parts: Sequence[Part] = (),
) -> Draft:
    """Return the report of a finding, the root of its tree.

    All source instances, the SEG if there is one, and all other objects of the tree are listed as
    evidence; the image library has one entry, because 18 content items an image are most of the
    cost of a report.

    Parameters
    ----------
    finding : Finding
        Of any kind.
    drawn : sequence of Segment
        Those that the SEG describes, in its order.
    copies : sequence of Dataset
        Of the source instances, from `instances_of`.
    seg : Dataset or None
        The Segmentation of the same finding.
    stamp : Stamp
        The job's time and the node.
    kind : str
        From which its identity follows; another for a report that refers to another SEG.
    others : sequence of Dataset
        What else the tree has: captures, presentation states, maps, key objects, a PDF.
    parts : sequence of Part
        Of a finding of several time points; `drawn` and `seg` stand there, for each of them.

    Returns
    -------
    Draft
        Times and Patient's Name not yet set.
    """
    reference = copies[0]
    told = parts or (Part(finding, drawn, copies, seg),)
    segs = [part.seg for part in told if part.seg is not None]
    groups = [group for part in told for group in part.groups()]
    dataset = SOPClass(
        **patient_arguments(reference),
        **common_arguments(finding, reference, stamp, kind),
        sop_class_uid=Comprehensive3DSRStorage,
        modality="SR",
        transfer_syntax_uid=ExplicitVRLittleEndian,
    )
    dataset.CompletionFlag = "COMPLETE"
    dataset.VerificationFlag = "UNVERIFIED"
    dataset.PreliminaryFlag = "PRELIMINARY"  # an algorithm's word is not the definitive one
    dataset.PerformedProcedureCodeSequence = []
    dataset.ReferencedPerformedProcedureStepSequence = []
    dataset.copy_patient_and_study_information(reference)
    dataset.ContributingEquipmentSequence = contributing_equipment(reference)
    dataset.ValueType = "CONTAINER"
    dataset.ContinuityOfContent = "CONTINUOUS"
    content = (
        code_item(HAS_CONCEPT_MODIFIER, _LANGUAGE, codes.ENGLISH_US),
        *_observer(finding, stamp),
        code_item(
            HAS_CONCEPT_MODIFIER,
            _PROCEDURE,
            codes.procedure_reported(reference.get("Modality", "")),
        ),
        image_library(reference),
        container(_MEASUREMENTS, *groups),
        _remarks(finding),
    )
    written = {
        "ConceptNameCodeSequence": coded("ConceptNameCodeSequence", _REPORT),
        "CurrentRequestedProcedureEvidenceSequence": _evidence([*copies, *segs, *others]),
        "ContentTemplateSequence": template_element("1500"),
        "ContentSequence": sequence("ContentSequence", *content),
    }
    return Draft(dataset, {keyword: (whole,) for keyword, whole in written.items()})


def _observer(finding: Finding, stamp: Stamp) -> tuple[bytes, ...]:
    """Return the device that observed (PS3.16 TID 1002, 1004)."""
    engine = finding.engine
    uid = identity.device_uid(engine, stamp.node_name)
    named = (
        (_DEVICE_NAME, engine.title),
        (_DEVICE_MANUFACTURER, MANUFACTURER),
        (_DEVICE_MODEL, engine.name),
        (_DEVICE_SERIAL_NUMBER, stamp.node_name),
    )
    return (
        code_item(HAS_OBSERVATION_CONTEXT, _OBSERVER_TYPE, _DEVICE),
        uid_item(HAS_OBSERVATION_CONTEXT, _DEVICE_UID, uid),
        *(text_item(HAS_OBSERVATION_CONTEXT, name, value) for name, value in named),
    )


def _remarks(finding: Finding) -> bytes:
    """Return the summary, the warnings and the engine's limits, in words.

    They stand in TID 1500 rows 12 and 14, the one place of the template that takes free text.
    """
    texts = (finding.summary, *finding.warnings, *finding.engine.limits, finding.engine.description)
    return container(codes.QUALITATIVE_EVALUATIONS, *(comment(text) for text in texts if text))


def _evidence(instances: Iterable[Dataset]) -> bytes:
    """Return the instances that were looked at, by study and series (PS3.3 C.17.2.3)."""
    studies: dict[str, dict[str, dict[str, bytes]]] = {}
    for one in instances:
        uid = str(one.SOPInstanceUID)
        series = studies.setdefault(str(one.StudyInstanceUID), {})
        series.setdefault(str(one.SeriesInstanceUID), {})[uid] = reference_item(
            str(one.SOPClassUID), uid
        )
    return sequence(
        "CurrentRequestedProcedureEvidenceSequence",
        *(
            item(
                sequence(
                    "ReferencedSeriesSequence",
                    *(
                        item(
                            sequence("ReferencedSOPSequence", *references.values()),
                            text("SeriesInstanceUID", series_uid),
                        )
                        for series_uid, references in series.items()
                    ),
                ),
                text("StudyInstanceUID", study_uid),
            )
            for study_uid, series in studies.items()
        ),
    )
