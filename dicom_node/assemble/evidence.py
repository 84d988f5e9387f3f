"""What is known of a study that is arriving: the input of the completeness decision."""

from __future__ import annotations

from dataclasses import dataclass, field

from dicom_node.assemble.series import SeriesFacts
from dicom_node.ledger.arriving import StudyEvidence
from dicom_node.model import Announcement
from dicom_node.verdict import SenderCount, Silences

_STORAGE = "1.2.840.10008.5.1.4.1.1."
_PRESENTATION_STATES = f"{_STORAGE}11."
_RAW_DATA = f"{_STORAGE}66"
_NO_IMAGES = tuple(
    _STORAGE + root
    for root in ("9.", "11.", "66.", "67", "68.", "69", "78.", "79", "80", "88.", "90", "104.")
)
_NO_IMAGES_EXACT = frozenset(
    {_RAW_DATA} | {f"{_STORAGE}481.{n}" for n in (3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13)}
)


def is_image(sop_class_uid: str) -> bool:
    """Return whether its instances are what a scanner makes and an engine reads.

    Reports, presentation states, key objects, segmentations, plans and what is private are not:
    they come from elsewhere, and often long after the images.

    References
    ----------
    PS3.4 B.5 (Standard SOP Classes), Table B.5-1
    """
    if not sop_class_uid.startswith(_STORAGE) or sop_class_uid in _NO_IMAGES_EXACT:
        return False
    return not sop_class_uid.startswith(_NO_IMAGES)


def is_often_kept_back(sop_class_uid: str) -> bool:
    """Return whether modalities name such instances in their MPPS and do not send them."""
    if not sop_class_uid.startswith("1.2.840.10008."):
        return True  # private: raw data by another name
    return sop_class_uid == _RAW_DATA or sop_class_uid.startswith(_PRESENTATION_STATES)


@dataclass(frozen=True)
class SeriesEvidence:
    """A series, as far as it is here."""

    series_instance_uid: str
    held: frozenset[str]
    """SOP Instance UIDs."""
    has_images: bool
    facts: SeriesFacts
    """What the headers say."""


@dataclass(frozen=True)
class Pace:
    """How long a scanner pauses inside of a study, at its slowest."""

    studies: int
    """From so many it was learned."""
    silences: Silences


@dataclass(frozen=True)
class Evidence:
    """Everything that can speak for or against a study's being whole."""

    study: StudyEvidence
    series: tuple[SeriesEvidence, ...]
    """By Series Instance UID."""
    announcements: tuple[Announcement, ...] = ()
    held_elsewhere: frozenset[str] = frozenset()
    """Announced instances that are here in another study: one procedure step may serve several."""
    sender_count: SenderCount | None = None
    pace: Pace | None = None
    """Learned from past studies; None where too few were seen."""
    own: Silences = field(default_factory=Silences)
    """The longest silences of this study until now."""

    @property
    def held(self) -> frozenset[str]:
        return frozenset().union(*(series.held for series in self.series))
