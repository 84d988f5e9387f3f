"""Finding to trees of results: for each rendition that is wanted, its objects and its report.

One run is one tree for whoever receives it: the report is made last, refers to nothing that the
tree has not, and lists all that it has (PS3.3 C.17.2.3), as IHE AI Results asks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from pydicom.dataset import Dataset

from dicom_node.encode.capture import make_captures
from dicom_node.encode.drafts import Draft
from dicom_node.encode.drawing import Drawing, drawing_of
from dicom_node.encode.header import Stamp, finish
from dicom_node.encode.key_objects import make_key_objects
from dicom_node.encode.key_slices import KEY_SLICES_MAX
from dicom_node.encode.material import DISCLAIMER, ImageReader, Material
from dicom_node.encode.parametric_map import make_maps
from dicom_node.encode.pdf import make_pdf
from dicom_node.encode.presentation import make_states
from dicom_node.encode.profiles import DEFAULT, PROFILES, Kind, Profile, Rendition, rendition_for
from dicom_node.encode.results import Encoded, building, check, encoded_of
from dicom_node.encode.seg import SegEncoding, make_seg
from dicom_node.encode.sources import instances_of
from dicom_node.encode.sr import Part as ReportPart
from dicom_node.encode.sr import make_sr
from dicom_node.errors import InvariantBroken
from dicom_node.finding import Finding, FindingKind
from dicom_node.model import Result


@dataclass(frozen=True)
class Wanted:
    """What a destination gets of every finding."""

    profile: Profile
    accepts: frozenset[SegEncoding] = frozenset()
    """What it was seen to accept beside BINARY."""


@dataclass(frozen=True)
class Trees:
    """All results of a finding."""

    encoded: tuple[Encoded, ...]
    """Each once, with the names of the renditions that it is in."""
    renditions: Mapping[str, str]
    """The name of the rendition that each destination gets."""


def encode_trees(
    finding: Finding,
    sources: Sequence[Dataset],
    stamp: Stamp,
    wanted: Mapping[str, Wanted],
    read_image: ImageReader,
    disclaimer: str = DISCLAIMER,
) -> Trees:
    """Return the default tree of a finding, and each other that a destination wants.

    Parameters
    ----------
    finding : Finding
        What an engine says of one series.
    sources : sequence of Dataset
        Decoded headers, without pixel data, in the order of `finding.sop_instance_uids`.
    stamp : Stamp
        The job's time and the node; of its predecessors those of a rendition count for it.
    wanted : mapping
        By destination.
    read_image : callable
        Returns a source with its pixels; only key slices are read, and only for pictures.
    disclaimer : str
        What stands on every picture and page.

    Raises
    ------
    InvariantBroken
        If finding and sources do not belong together, or the objects cannot be built.
    """
    with building(f"the results of {finding.engine.name}"):
        check(finding, sources)
        own_stamp = replace(stamp, predecessors=_of(stamp, DEFAULT))
        parts = [
            _Part.of(part, own, own_stamp, read_image, disclaimer, len(finding.by_time_point))
            for part, own in finding.shared_out(sources)
        ]
        plain = _rendered(Wanted(PROFILES[DEFAULT]), parts)
        of_destination = {name: _rendered(one, parts) for name, one in wanted.items()}
        names = {one: one.text for one in of_destination.values()} | {plain: DEFAULT}
        material = parts[0].material
        if finding.parts:
            of_parts = tuple(part.material for part in parts)
            material = Material(finding, sources, (), own_stamp, read_image, disclaimer, of_parts)
        maker = _Maker(material, parts)
        made: dict[str, Encoded] = {}
        for rendition, name in sorted(
            names.items(), key=lambda item: (item[1] != DEFAULT, item[1])
        ):
            for one in maker.tree(rendition, name, _of(stamp, name)):
                before = made.get(one.sop_instance_uid)
                within = (*before.renditions, name) if before else (name,)
                made[one.sop_instance_uid] = replace(one, renditions=within)
        chosen = {destination: names[one] for destination, one in of_destination.items()}
        return Trees(tuple(made.values()), chosen)


def _of(stamp: Stamp, name: str) -> tuple[Result, ...]:
    return tuple(one for one in stamp.predecessors if name in one.renditions)


@dataclass(frozen=True)
class _Part:
    """One time point, or all there is."""

    material: Material
    drawing: Drawing | None
    """None without a mask."""

    @classmethod
    def of(
        cls,
        finding: Finding,
        sources: Sequence[Dataset],
        stamp: Stamp,
        read_image: ImageReader,
        disclaimer: str,
        count: int,
    ) -> _Part:
        """Return one of `count` time points; the more there are, the fewer pictures of each."""
        segmented = finding.kind is FindingKind.SEGMENTATION
        drawing = drawing_of(finding, sources) if segmented else None
        drawn = () if drawing is None else drawing.segments
        pictures = max(1, KEY_SLICES_MAX // count)
        material = Material(
            finding, sources, drawn, stamp, read_image, disclaimer, key_slices_max=pictures
        )
        return cls(material, drawing)

    @property
    def has_voxels(self) -> bool:
        return self.drawing is not None and bool(self.drawing.segments)


def _rendered(wanted: Wanted, parts: Sequence[_Part]) -> Rendition:
    """Return the tree to make for a destination: what it can show of each time point."""

    def of(part: _Part) -> Rendition:
        material = part.material
        return rendition_for(
            wanted.profile,
            material.finding,
            part.drawing,
            material.sources[0],
            wanted.accepts,
        )

    drawn = [part for part in parts if part.has_voxels] or parts
    return min(map(of, drawn), key=_boldness)


def _boldness(rendition: Rendition) -> int:
    """Return how much is asked of a viewer: all time points are shown as the least allows."""
    return [Kind.SEG in rendition.kinds, rendition.encoding is not SegEncoding.BINARY].count(True)


class _Maker:
    """Makes objects of one finding, each once."""

    def __init__(self, material: Material, parts: Sequence[_Part]) -> None:
        self._material = material
        self._parts = parts
        self._made: dict[tuple[Kind, SegEncoding], list[Draft]] = {}
        self._patient_name = material.sources[0].get("PatientName", "")

    def tree(
        self, rendition: Rendition, name: str, predecessors: tuple[Result, ...]
    ) -> list[Encoded]:
        """Return the objects of a rendition, its report last."""
        results: list[Encoded] = []
        others: list[Dataset] = []
        segs: list[Dataset] = []
        for kind in rendition.kinds:
            if kind is Kind.SR:
                variant = "SR" if name == DEFAULT else f"SR {name}"
                drafts = [self._report(variant, segs, others, predecessors)]
            elif kind is Kind.KO:
                drafts = self._key_objects([*segs, *others])
            else:
                drafts = self._of_kind(kind, rendition.encoding)
            if kind is Kind.SEG:
                segs = [draft.dataset for draft in drafts]
            else:
                others += [draft.dataset for draft in drafts]
            label = kind if kind is not Kind.SEG else _LABELS[rendition.encoding]
            results += [encoded_of(str(label), draft) for draft in drafts]
        return results

    def _of_kind(self, kind: Kind, encoding: SegEncoding) -> list[Draft]:
        """Return the objects of a kind that refer to the sources only."""
        if (kind, encoding) not in self._made:
            if kind is Kind.SEG:
                drafts = [_segmented(part, encoding) for part in self._parts if part.has_voxels]
            else:
                drafts = [Draft(one) for one in _MAKERS[kind](self._material)]
            self._made[kind, encoding] = [self._finished(draft) for draft in drafts]
        return self._made[kind, encoding]

    def _key_objects(self, others: Sequence[Dataset]) -> list[Draft]:
        selection = make_key_objects(self._material, others)
        return [] if selection is None else [self._finished(Draft(selection))]

    def _report(
        self,
        kind: str,
        segs: Sequence[Dataset],
        others: Sequence[Dataset],
        predecessors: tuple[Result, ...],
    ) -> Draft:
        material = self._material
        left = iter(segs)
        parts = [
            ReportPart(
                part.material.finding,
                part.material.drawn,
                instances_of(part.material.copies),
                next(left, None) if part.has_voxels else None,
            )
            for part in self._parts
        ]
        draft = make_sr(
            material.finding,
            material.drawn,
            instances_of(material.copies),
            None,
            material.stamp,
            kind,
            others,
            parts,
        )
        return self._finished(draft, predecessors)

    def _finished(self, draft: Draft, predecessors: tuple[Result, ...] = ()) -> Draft:
        material = self._material
        stamp = replace(material.stamp, predecessors=predecessors)
        finish(draft.dataset, self._patient_name, material.reference, stamp)
        return draft


def _segmented(part: _Part, encoding: SegEncoding) -> Draft:
    material = part.material
    if part.drawing is None:
        raise InvariantBroken("a Segmentation is wanted of a finding without a mask")
    kind = "SEG" if encoding is SegEncoding.BINARY else f"SEG {encoding}"
    return make_seg(material.finding, part.drawing, material.copies, material.stamp, encoding, kind)


def _of_each(make: Callable[[Material], list[Dataset]]) -> Callable[[Material], list[Dataset]]:
    """Return what makes objects of each time point by itself."""
    return lambda material: [one for part in material.by_time_point for one in make(part)]


_MAKERS: Mapping[Kind, Callable[[Material], list[Dataset]]] = {
    Kind.PM: _of_each(make_maps),
    Kind.PR: _of_each(make_states),
    Kind.SC: _of_each(make_captures),
    Kind.PDF: lambda material: [make_pdf(material)],
}
_LABELS = {
    SegEncoding.BINARY: "SEG",
    SegEncoding.LABELMAP: "LABELMAP",
    SegEncoding.FRACTIONAL: "FRACTIONAL",
}
"""How the ledger calls a Segmentation: SEG is the one that engine versions are compared by."""
