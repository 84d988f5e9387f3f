"""What results are made of: the finding, where it was found, and the images to show it on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

from pydicom.dataset import Dataset

from dicom_node.encode.header import Stamp
from dicom_node.encode.key_slices import KEY_SLICES_MAX, KeySlices, joined, key_slices
from dicom_node.encode.sources import copies_of
from dicom_node.finding import Finding, FindingKind, Segment
from dicom_node.pictures import Colour, segment_colour

ImageReader = Callable[[str], Dataset]
"""Returns the whole source instance, with its pixels, that has a SOP Instance UID."""

DISCLAIMER = "NOT FOR DIAGNOSTIC USE"


@dataclass(frozen=True)
class Material:
    """Everything that a result of a finding depends on; nothing else varies."""

    finding: Finding
    sources: Sequence[Dataset]
    """Headers without pixels, in the order of the finding's instances."""
    drawn: tuple[Segment, ...]
    """The segments that have voxels, in the order in which a SEG numbers them."""
    stamp: Stamp
    read_image: ImageReader
    disclaimer: str = DISCLAIMER
    """What stands on every picture and page."""
    parts: tuple[Material, ...] = ()
    """Of each time point, where there are several."""
    key_slices_max: int = KEY_SLICES_MAX

    @property
    def by_time_point(self) -> tuple[Material, ...]:
        """That of each time point; itself where there is but one."""
        return self.parts or (self,)

    @cached_property
    def copies(self) -> list[Dataset]:
        """The headers as highdicom can be given them, the Patient's Name withheld."""
        if self.parts:
            return [copy for part in self.parts for copy in part.copies]
        copies = copies_of(self.sources)
        copies[0].PatientName = ""
        return copies

    @property
    def reference(self) -> Dataset:
        """The first copy: what is inherited comes from it."""
        return self.copies[0]

    @cached_property
    def key_slices(self) -> KeySlices:
        if self.parts:
            return joined([(part.key_slices, len(part.sources)) for part in self.parts])
        return key_slices(self.finding, self.key_slices_max)

    @property
    def engine_line(self) -> str:
        """Who says so, in one line."""
        engine, stamp = self.finding.engine, self.stamp
        return f"{engine.name} {engine.version} on dicom_node {stamp.software_version}"


def statements_on(finding: Finding, sop_instance_uid: str) -> list[tuple[str, Colour | None]]:
    """Return what a finding says of one image, a line each; of a mask, what it measured.

    What is said of the series as a whole is said of each of its images. Of several time points the
    first line says which it is of.
    """
    uids = {"", sop_instance_uid}
    lines: list[tuple[str, Colour | None]] = []
    if finding.time_point is not None:
        which = finding.time_point.in_words
        lines.append((f"{which[:1].upper()}{which[1:]}", None))
    if finding.kind is FindingKind.SEGMENTATION:
        for segment in finding.segments:
            lines.append((_measured(segment), segment_colour(segment.segment_number)))
    for said in finding.classifications:
        if said.sop_instance_uid in uids:
            presence = "present" if said.present else "absent"
            text = f"{said.label}: {presence} (probability {said.probability:.2f}, "
            lines.append((f"{text}threshold {said.threshold:g})", None))
    for quality in finding.qualities:
        if quality.sop_instance_uid in uids:
            faults = [f"{one.name} ({one.probability:.2f})" for one in quality.faults if one.found]
            words = "; ".join((f"Image quality: {quality.grade}", *faults, *quality.notes))
            lines.append((words, None))
    for value in finding.values:
        if value.sop_instance_uid in uids:
            lines.append((f"{value.label}: {value.value:g} {unit_of(value.unit.value)}", None))
    return lines


def unit_of(code: str) -> str:
    """Return a UCUM unit as people write it."""
    return {"1": "", "[hnsf'U]": "HU", "mm2": "mm²", "mm3": "mm³", "cm2": "cm²"}.get(code, code)


def _measured(segment: Segment) -> str:
    told = [one for one in segment.measurements if one.concept is not None]
    if not told:
        return segment.label
    first = told[0]
    return f"{segment.label}: {first.value:.1f} {unit_of(first.unit.value)}"
