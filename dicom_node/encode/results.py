"""Finding to Part 10 files: the stage's one entry.

A Finding and its source headers go in, whole SEG and SR objects come out; the same input gives the
same bytes. highdicom builds them, what it leaves open is settled in the modules beside this one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from pydicom.dataset import Dataset

from dicom_node.encode.header import Stamp, finish, part10
from dicom_node.encode.seg import drawn_segments, make_seg
from dicom_node.encode.sources import copies_of, instances_of
from dicom_node.encode.sr import make_sr
from dicom_node.errors import DicomNodeError, InvariantBroken
from dicom_node.finding import Finding, FindingKind

__all__ = ["Encoded", "Stamp", "encode"]


@dataclass(frozen=True)
class Encoded:
    """A result that is ready to be stored."""

    kind: str
    """SEG, SR or REJECTION."""
    sop_instance_uid: str
    sop_class_uid: str
    series_instance_uid: str
    study_instance_uid: str
    transfer_syntax_uid: str
    content: bytes
    """The whole Part 10 file."""


def encode(finding: Finding, sources: Sequence[Dataset], stamp: Stamp) -> tuple[Encoded, ...]:
    """Return the results of a finding, the SEG (if any segment has a voxel) before the SR.

    Parameters
    ----------
    finding : Finding
        What an engine says of one series.
    sources : sequence of Dataset
        Decoded headers, without pixel data, in the order of `finding.sop_instance_uids`. They are
        not changed.
    stamp : Stamp
        The job's time and the node.

    Raises
    ------
    InvariantBroken
        If finding and sources do not belong together, or the objects cannot be built.

    References
    ----------
    PS3.3 A.51 (Segmentation), A.35.13 (Comprehensive 3D SR); PS3.16 TID 1500
    """
    with building(f"the results of {finding.engine.name}"):
        _check(finding, sources)
        segmented = finding.kind is FindingKind.SEGMENTATION
        drawn = drawn_segments(finding, sources) if segmented else ()
        copies = copies_of(sources)
        reference = copies[0]
        patient_name = reference.PatientName
        reference.PatientName = ""
        seg = make_seg(finding, drawn, copies, stamp) if drawn else None
        report = make_sr(finding, drawn, instances_of(copies), seg, stamp)
        encoded = []
        for kind, dataset in (("SEG", seg), ("SR", report)):
            if dataset is not None:
                finish(dataset, patient_name, reference, stamp)
                encoded.append(_encoded(kind, dataset))
        return tuple(encoded)


def _check(finding: Finding, sources: Sequence[Dataset]) -> None:
    uids = tuple(str(source.get("SOPInstanceUID", "")) for source in sources)
    if not uids or uids != finding.sop_instance_uids:
        raise InvariantBroken(
            f"a finding on {len(finding.sop_instance_uids)} instances came with {len(uids)} "
            "headers, or in another order"
        )
    said = [one.sop_instance_uid for one in finding.statements]
    if not set(said) <= {*uids, ""}:  # without a UID it speaks of the series as a whole
        raise InvariantBroken("a finding speaks of an instance that is not among its sources")
    if not (finding.segments or said):
        raise InvariantBroken("a finding says nothing")


def _encoded(kind: str, dataset: Dataset) -> Encoded:
    return Encoded(
        kind=kind,
        sop_instance_uid=str(dataset.SOPInstanceUID),
        sop_class_uid=str(dataset.SOPClassUID),
        series_instance_uid=str(dataset.SeriesInstanceUID),
        study_instance_uid=str(dataset.StudyInstanceUID),
        transfer_syntax_uid=str(dataset.file_meta.TransferSyntaxUID),
        content=part10(dataset),
    )


@contextmanager
def building(what: str) -> Iterator[None]:
    """Translate whatever highdicom and pydicom raise while they build an object.

    Their messages may quote a patient's attributes, so only the type is told.
    """
    try:
        yield
    except DicomNodeError:
        raise
    except Exception as error:
        raise InvariantBroken(
            f"{what} cannot be encoded: {type(error).__name__}",
            hint="the study and the engine's finding are the evidence: report them",
        ) from error
