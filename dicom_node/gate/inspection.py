"""The gate: each object of a tree is judged once, as it was written, before any is sent."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import UnsupportedOperation
from itertools import islice
from mmap import ACCESS_READ, mmap

from pydicom.dataset import Dataset

from dicom_node.finding import Finding
from dicom_node.gate.attributes import conditional, invalid, missing
from dicom_node.gate.content import broken_items
from dicom_node.gate.file import ResultFile, read_result
from dicom_node.gate.groups import broken_groups
from dicom_node.gate.items import Unreadable
from dicom_node.gate.references import Known, broken_evidence, unknown_references
from dicom_node.gate.voxels import misplaced_voxels
from dicom_node.headers import Part10
from dicom_node.model import REJECTION, Result

_TOLD_MAX = 5
"""Of one object: where something is broken, much is."""


@dataclass(frozen=True)
class Checked:
    """An object that was written, and its file."""

    result: Result
    file: Part10


@dataclass(frozen=True)
class Verdict:
    """Why an object must not be sent."""

    kind: str
    sop_instance_uid: str
    reasons: tuple[str, ...]

    @property
    def in_words(self) -> str:
        return f"{self.kind} {self.sop_instance_uid}: {'; '.join(self.reasons)}"


def inspect(
    results: Sequence[Checked],
    finding: Finding,
    sources: Sequence[Dataset],
    earlier: Sequence[Result] = (),
    bytes_max: int | None = None,
) -> tuple[Verdict, ...]:
    """Return what must not be sent of a finding's results, each with its reasons.

    Parameters
    ----------
    results : sequence of Checked
        All objects of all trees. Each is judged once: it may refer to what is in every tree that
        it is in itself.
    finding : Finding
        What they say; its mask is compared with theirs.
    sources : sequence of Dataset
        Headers of what it was found on.
    earlier : sequence of Result
        Reports that may be named as predecessors.
    bytes_max : int, optional
        How large a file may be.
    """
    known = {
        str(source.SOPInstanceUID): Known(
            str(source.SOPClassUID), str(source.SeriesInstanceUID), str(source.StudyInstanceUID)
        )
        for source in sources
    }
    known |= {one.sop_instance_uid: _place(one) for one in earlier}
    verdicts = []
    for one in results:
        own = one.result
        beside = [
            other.result
            for other in results
            if other is not one and set(own.renditions) <= set(other.result.renditions)
        ]
        reachable = {**known, **{other.sop_instance_uid: _place(other) for other in beside}}
        # a rejection note speaks of another tree, and is no part of this one
        kinds = {other.sop_instance_uid: other.kind for other in beside if other.kind != REJECTION}
        judge = _Judge(own, finding, sources, reachable, kinds, bytes_max)
        reasons = tuple(islice(judge.reasons(one.file), _TOLD_MAX))
        if reasons:
            verdicts.append(Verdict(one.result.kind, one.result.sop_instance_uid, reasons))
    return tuple(verdicts)


def _place(result: Result) -> Known:
    return Known(result.sop_class_uid, result.series_instance_uid, result.study_instance_uid)


@dataclass(frozen=True)
class _Judge:
    """What one object is judged by."""

    result: Result
    finding: Finding
    sources: Sequence[Dataset]
    known: dict[str, Known]
    others: dict[str, str]
    bytes_max: int | None

    def reasons(self, file: Part10) -> Iterator[str]:
        size = self.result.size_bytes
        if self.bytes_max is not None and size > self.bytes_max:
            yield f"it has {size} bytes, more than results.bytes_max: {self.bytes_max}"
            return
        with _mapped(file) as data:
            try:
                written = read_result(data)
                yield from self._broken(written)
            except Unreadable as error:
                yield f"it cannot be read: {error}"

    def _broken(self, written: ResultFile) -> Iterator[str]:
        dataset, class_uid = written.dataset, self.result.sop_class_uid
        said = (str(dataset.get("SOPInstanceUID")), str(dataset.get("SOPClassUID")))
        if said != (self.result.sop_instance_uid, class_uid):
            yield "its SOP Instance and SOP Class are not those that it was recorded with"
        yield from missing(dataset, class_uid)
        yield from conditional(dataset)
        yield from invalid(dataset, class_uid)
        yield from broken_groups(written, class_uid)
        yield from broken_items(dataset)
        yield from unknown_references(dataset, class_uid, self.known, written.listings)
        yield from broken_evidence(dataset, self.known, self.others, written.listings)
        yield from misplaced_voxels(written, self.finding, self.sources)


@contextmanager
def _mapped(file: Part10) -> Iterator[mmap | bytes]:
    """Yield the bytes of a file: mapped where it lies on a disk, so a large one takes no memory."""
    with file.open("rb") as opened:
        try:
            number = opened.fileno()
        except UnsupportedOperation:
            yield opened.read()
            return
        data = mmap(number, 0, access=ACCESS_READ)
    yield data
