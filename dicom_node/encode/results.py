"""Finding to Part 10 files: the stage's one entry.

A Finding and its source headers go in, whole SEG and SR objects come out; the same input gives the
same bytes. highdicom makes their headers; what grows with slices and segments is written beside it,
and what it leaves open is settled in the modules beside this one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from pydicom.dataset import Dataset

from dicom_node.encode.drafts import Draft, Pieces, pieces_of
from dicom_node.encode.drawing import drawing_of
from dicom_node.encode.header import Stamp, finish
from dicom_node.encode.seg import SegEncoding, encoding_for, make_seg
from dicom_node.encode.sources import copies_of, instances_of
from dicom_node.encode.sr import make_sr
from dicom_node.errors import DicomNodeError, InvariantBroken
from dicom_node.finding import Finding, FindingKind, Segment
from dicom_node.model import DEFAULT_RENDITION

__all__ = ["Encoded", "SegEncoding", "Stamp", "building", "check", "encode", "encoded_of"]


@dataclass(frozen=True)
class Encoded:
    """A result that is ready to be stored."""

    kind: str
    """SEG, SR, or another of `profiles.Kind`; or REJECTION."""
    sop_instance_uid: str
    sop_class_uid: str
    series_instance_uid: str
    study_instance_uid: str
    transfer_syntax_uid: str
    pieces: Pieces
    """The whole Part 10 file, piece by piece, as often as it is gone through. A large SEG is never
    in memory as a whole; its pieces are made from the finding's mask, which must not change."""
    renditions: tuple[str, ...] = (DEFAULT_RENDITION,)
    """The trees that it is in."""

    @property
    def content(self) -> bytes:
        """The whole Part 10 file at once: for what is known to be small."""
        return b"".join(self.pieces)


def encode(
    finding: Finding,
    sources: Sequence[Dataset],
    stamp: Stamp,
    seg_encoding: SegEncoding = SegEncoding.BINARY,
) -> tuple[Encoded, ...]:
    """Return the results of a finding, the SEG (if any segment has a voxel) before the SR.

    Each encoding of the SEG has its own SEG and its own SR that refers to it, with other UIDs: one
    archive can have both. Without a SEG the SR is the same for all.

    Parameters
    ----------
    finding : Finding
        What an engine says of one series with one time point; of several, see `encode_trees`.
    sources : sequence of Dataset
        Decoded headers, without pixel data, in the order of `finding.sop_instance_uids`. They are
        not changed.
    stamp : Stamp
        The job's time and the node.
    seg_encoding : SegEncoding
        Which SEG is wanted. A label map of segments that overlap is not to be had: it is BINARY
        then. Without probabilities, FRACTIONAL has the mask at its full value.

    Raises
    ------
    InvariantBroken
        If finding and sources do not belong together, or the objects cannot be built.

    References
    ----------
    PS3.3 A.51 (Segmentation), A.35.13 (Comprehensive 3D SR); PS3.16 TID 1500
    """
    with building(f"the results of {finding.engine.name}"):
        check(finding, sources)
        copies = copies_of(sources)
        reference = copies[0]
        patient_name = reference.PatientName
        reference.PatientName = ""
        segmented = finding.kind is FindingKind.SEGMENTATION
        drawing = drawing_of(finding, sources) if segmented else None
        drafts: dict[str, Draft] = {}
        seg: Dataset | None = None
        drawn: Sequence[Segment] = ()
        variant = ""
        if drawing is not None and drawing.segments:
            encoding = encoding_for(drawing, seg_encoding)
            variant = "" if encoding is SegEncoding.BINARY else f" {encoding}"
            drafts["SEG"] = make_seg(finding, drawing, copies, stamp, encoding, f"SEG{variant}")
            seg, drawn = drafts["SEG"].dataset, drawing.segments
        drafts["SR"] = make_sr(finding, drawn, instances_of(copies), seg, stamp, f"SR{variant}")
        for draft in drafts.values():
            finish(draft.dataset, patient_name, reference, stamp)
        return tuple(encoded_of(kind, draft) for kind, draft in drafts.items())


def check(finding: Finding, sources: Sequence[Dataset]) -> None:
    """Raise `InvariantBroken` where a finding and its sources do not belong together."""
    uids = tuple(str(source.get("SOPInstanceUID", "")) for source in sources)
    if not uids or uids != finding.sop_instance_uids:
        raise InvariantBroken(
            f"a finding on {len(finding.sop_instance_uids)} instances came with {len(uids)} "
            "headers, or in another order"
        )
    if finding.parts:
        for part, own in finding.shared_out(sources):
            check(part, own)
        return
    said = [one.sop_instance_uid for one in finding.statements]
    if not set(said) <= {*uids, ""}:  # without a UID it speaks of the series as a whole
        raise InvariantBroken("a finding speaks of an instance that is not among its sources")
    if not (finding.segments or said):
        raise InvariantBroken("a finding says nothing")


def encoded_of(kind: str, draft: Draft) -> Encoded:
    """Return a finished draft as a result."""
    dataset = draft.dataset
    return Encoded(
        kind=kind,
        sop_instance_uid=str(dataset.SOPInstanceUID),
        sop_class_uid=str(dataset.SOPClassUID),
        series_instance_uid=str(dataset.SeriesInstanceUID),
        study_instance_uid=str(dataset.StudyInstanceUID),
        transfer_syntax_uid=str(dataset.file_meta.TransferSyntaxUID),
        pieces=pieces_of(draft),
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
