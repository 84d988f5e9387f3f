"""What a destination gets of a finding: which objects, in which encoding, or what instead.

A profile is what an operator says of a destination. A rendition is what it comes to for one
finding: a tree of its own, with its own report as the root. Destinations that come to the same
rendition share it, and an object that is the same in several trees is made once.

The default tree is what every node has always made: a BINARY Segmentation, if any segment has a
voxel, and the report. It is made for every job, whoever wants it: engine versions are compared by
it, and a destination of which nothing is said gets it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Literal

import numpy as np
from pydicom.dataset import Dataset

from dicom_node.config.settings import Config
from dicom_node.encode.drawing import Drawing
from dicom_node.encode.seg import SegEncoding, drawn_or_probable
from dicom_node.finding import Finding
from dicom_node.model import DEFAULT_RENDITION

DEFAULT = DEFAULT_RENDITION
"""The name of the profile, and of the rendition, of those of whom nothing is said."""


class Kind(StrEnum):
    """An object of a tree."""

    SEG = "SEG"
    PM = "PM"
    PR = "PR"
    SC = "SC"
    KO = "KO"
    PDF = "PDF"
    SR = "SR"


ORDER = tuple(Kind)
"""In which the objects of a tree are made: what refers to others after them, the report last."""


@dataclass(frozen=True)
class Profile:
    """What an operator says that a destination shows."""

    objects: frozenset[Kind]
    """The report is always among them."""
    labelmap: bool | Literal["auto"] = False
    """Whether it takes the SOP Class of label maps; `auto`: if it was seen to accept it."""
    fractional: bool | Literal["auto"] = False
    """Whether it wants probabilities, of engines that give them, before all other encodings;
    `auto`: if it was seen to accept them run-length encoded."""
    frames_max: int | None = None
    """A Segmentation with more frames is not shown."""
    on_projections: bool = True
    """Whether a Segmentation on an X-ray is shown, which has no place in the patient."""
    instead: frozenset[Kind] = frozenset({Kind.PR, Kind.SC})
    """What it gets where it would not show the Segmentation."""

    @property
    def asks(self) -> bool:
        """Whether it depends on what a destination was seen to accept."""
        return "auto" in (self.labelmap, self.fractional)


@dataclass(frozen=True)
class Rendition:
    """A tree to be made."""

    kinds: tuple[Kind, ...]
    """In the order of `ORDER`."""
    encoding: SegEncoding = SegEncoding.BINARY

    @property
    def text(self) -> str:
        """Its content in words, from which the identity of its report follows."""
        kinds = [
            str(self.encoding)
            if kind is Kind.SEG and self.encoding is not SegEncoding.BINARY
            else str(kind)
            for kind in self.kinds
        ]
        return "+".join(kinds)


def _with_report(*objects: Kind) -> frozenset[Kind]:
    return frozenset({*objects, Kind.SR})


PROFILES: Mapping[str, Profile] = MappingProxyType(
    {
        DEFAULT: Profile(_with_report(Kind.SEG)),
        # Its loader reads BINARY and LABELMAP exactly, refuses FRACTIONAL, and asks for a place in
        # the patient.
        "ohif": Profile(_with_report(Kind.SEG), labelmap="auto", on_projections=False),
        # dcmqi reads label maps, Slicer's own reader does not yet.
        "slicer": Profile(_with_report(Kind.SEG, Kind.PM)),
        # Weasis 4.6 shows no Segmentation of more than 400 frames.
        "weasis": Profile(_with_report(Kind.SEG, Kind.KO), frames_max=400),
        # An archive keeps what it gets; Orthanc 1.10 refuses label maps by C-STORE.
        "orthanc": Profile(_with_report(Kind.SEG)),
        "no-seg": Profile(_with_report(Kind.PR, Kind.SC, Kind.KO)),
        "sr-text-only": Profile(_with_report()),
        "everything": Profile(_with_report(*Kind), labelmap="auto"),
    }
)
"""Those that come with the node; the configuration may add others."""


def known_profiles(config: Config) -> dict[str, Profile]:
    """Return the profiles that come with the node and those of the configuration, by name."""
    own = {
        name: Profile(
            objects=_with_report(*map(Kind, written.objects)),
            labelmap=written.labelmap,
            fractional=written.fractional,
            frames_max=written.frames_max,
            on_projections=written.on_projections,
            instead=frozenset(map(Kind, written.instead)),
        )
        for name, written in config.results_profiles.items()
    }
    return {**PROFILES, **own}


def profiles_of(config: Config) -> dict[str, Profile]:
    """Return the profile of each destination."""
    known = known_profiles(config)
    return {name: known[peer.results] for name, peer in config.destinations.items()}


def rendition_for(
    profile: Profile,
    finding: Finding,
    drawing: Drawing | None,
    source: Dataset,
    accepts: Collection[SegEncoding] = (),
) -> Rendition:
    """Return the tree to make of a finding for a destination.

    Parameters
    ----------
    drawing : Drawing or None
        What the finding has drawn; None if it has no mask.
    source : Dataset
        A header of what it was found on.
    accepts : collection of SegEncoding
        What the destination was seen to accept beside BINARY.
    """
    kinds, encoding = set(profile.objects), SegEncoding.BINARY
    is_projection = "ImagePositionPatient" not in source
    if Kind.SEG in kinds:
        chosen = _encoding(profile, finding, drawing, accepts)
        if chosen is None or (is_projection and not profile.on_projections):
            kinds -= {Kind.SEG}
            kinds |= profile.instead if drawing is not None and drawing.segments else set()
        else:
            encoding = chosen
    if not finding.maps or is_projection:
        kinds -= {Kind.PM}  # a projection has no frame of reference for a map
    if Kind.PR in kinds and int(source.get("SamplesPerPixel", 1)) > 1:
        kinds = kinds - {Kind.PR} | {Kind.SC}  # colour has no grey to be presented
    return Rendition(tuple(kind for kind in ORDER if kind in kinds), encoding)


def _encoding(
    profile: Profile, finding: Finding, drawing: Drawing | None, accepts: Collection[SegEncoding]
) -> SegEncoding | None:
    """Return how the Segmentation is encoded; None if there is none that would be shown."""
    if drawing is None or not drawing.segments:
        return None

    def takes(wanted: bool | Literal["auto"], encoding: SegEncoding) -> bool:
        return wanted is True or (wanted == "auto" and encoding in accepts)

    if finding.probabilities is not None and takes(profile.fractional, SegEncoding.FRACTIONAL):
        present = drawn_or_probable(finding, drawing)
        frames, encoding = np.count_nonzero(present), SegEncoding.FRACTIONAL
    elif not drawing.overlaps and takes(profile.labelmap, SegEncoding.LABELMAP):
        frames, encoding = np.count_nonzero(drawing.present.any(axis=0)), SegEncoding.LABELMAP
    else:
        frames, encoding = np.count_nonzero(drawing.present), SegEncoding.BINARY
    if profile.frames_max is not None and frames > profile.frames_max:
        return None
    return encoding
