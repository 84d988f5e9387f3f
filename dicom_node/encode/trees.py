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
from dicom_node.encode.material import DISCLAIMER, ImageReader, Material
from dicom_node.encode.parametric_map import make_maps
from dicom_node.encode.pdf import make_pdf
from dicom_node.encode.presentation import make_states
from dicom_node.encode.profiles import DEFAULT, PROFILES, Kind, Profile, Rendition, rendition_for
from dicom_node.encode.results import Encoded, building, check, encoded_of
from dicom_node.encode.seg import SegEncoding, make_seg
from dicom_node.encode.sources import instances_of
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
        segmented = finding.kind is FindingKind.SEGMENTATION
        drawing = drawing_of(finding, sources) if segmented else None

        def rendered(one: Wanted) -> Rendition:
            return rendition_for(one.profile, finding, drawing, sources[0], one.accepts)

        plain = rendered(Wanted(PROFILES[DEFAULT]))
        of_destination = {name: rendered(one) for name, one in wanted.items()}
        names = {one: one.text for one in of_destination.values()} | {plain: DEFAULT}
        material = Material(
            finding,
            sources,
            () if drawing is None else drawing.segments,
            replace(stamp, predecessors=_of(stamp, DEFAULT)),
            read_image,
            disclaimer,
        )
        maker = _Maker(material, drawing)
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


class _Maker:
    """Makes objects of one finding, each once."""

    def __init__(self, material: Material, drawing: Drawing | None) -> None:
        self._material = material
        self._drawing = drawing
        self._made: dict[tuple[Kind, SegEncoding], list[Draft]] = {}
        self._patient_name = material.sources[0].get("PatientName", "")

    def tree(
        self, rendition: Rendition, name: str, predecessors: tuple[Result, ...]
    ) -> list[Encoded]:
        """Return the objects of a rendition, its report last."""
        results: list[Encoded] = []
        others: list[Dataset] = []
        seg: Dataset | None = None
        for kind in rendition.kinds:
            if kind is Kind.SR:
                variant = "SR" if name == DEFAULT else f"SR {name}"
                drafts = [self._report(variant, seg, others, predecessors)]
            elif kind is Kind.KO:
                drafts = self._key_objects([*([] if seg is None else [seg]), *others])
            else:
                drafts = self._of_kind(kind, rendition.encoding)
            if kind is Kind.SEG:
                seg = drafts[0].dataset
            else:
                others += [draft.dataset for draft in drafts]
            label = kind if kind is not Kind.SEG else _LABELS[rendition.encoding]
            results += [encoded_of(str(label), draft) for draft in drafts]
        return results

    def _of_kind(self, kind: Kind, encoding: SegEncoding) -> list[Draft]:
        """Return the objects of a kind that refer to the sources only."""
        if (kind, encoding) not in self._made:
            drafts = (
                [self._segmentation(encoding)]
                if kind is Kind.SEG
                else [Draft(one) for one in _MAKERS[kind](self._material)]
            )
            self._made[kind, encoding] = [self._finished(draft) for draft in drafts]
        return self._made[kind, encoding]

    def _segmentation(self, encoding: SegEncoding) -> Draft:
        material, drawing = self._material, self._drawing
        if drawing is None:
            raise InvariantBroken("a Segmentation is wanted of a finding without a mask")
        kind = "SEG" if encoding is SegEncoding.BINARY else f"SEG {encoding}"
        return make_seg(material.finding, drawing, material.copies, material.stamp, encoding, kind)

    def _key_objects(self, others: Sequence[Dataset]) -> list[Draft]:
        selection = make_key_objects(self._material, others)
        return [] if selection is None else [self._finished(Draft(selection))]

    def _report(
        self,
        kind: str,
        seg: Dataset | None,
        others: Sequence[Dataset],
        predecessors: tuple[Result, ...],
    ) -> Draft:
        material = self._material
        draft = make_sr(
            material.finding,
            material.drawn,
            instances_of(material.copies),
            seg,
            material.stamp,
            kind,
            others,
        )
        return self._finished(draft, predecessors)

    def _finished(self, draft: Draft, predecessors: tuple[Result, ...] = ()) -> Draft:
        material = self._material
        stamp = replace(material.stamp, predecessors=predecessors)
        finish(draft.dataset, self._patient_name, material.reference, stamp)
        return draft


_MAKERS: Mapping[Kind, Callable[[Material], list[Dataset]]] = {
    Kind.PM: make_maps,
    Kind.PR: make_states,
    Kind.SC: make_captures,
    Kind.PDF: lambda material: [make_pdf(material)],
}
_LABELS = {
    SegEncoding.BINARY: "SEG",
    SegEncoding.LABELMAP: "LABELMAP",
    SegEncoding.FRACTIONAL: "FRACTIONAL",
}
"""How the ledger calls a Segmentation: SEG is the one that engine versions are compared by."""
