"""What a study consists of, so that a C-GET can offer to take it.

Instances of a C-GET come on the association that asked, in the presentation contexts that were
proposed before anyone knew what comes: at most 128 (PS3.8 9.3.2.2). So the peer is asked first what
SOP Classes there are. A presentation context is proposed for each pair of SOP Class and transfer
syntax: the peer can send each instance as it holds it, and nobody has to decode anything.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from dicom_node.scu.address import Address
from dicom_node.scu.find import Level, Query
from dicom_node.scu.found import text_in

CONTEXTS_MAX = 123
"""128 less C-ECHO and two each for C-GET and C-FIND."""

_INSTANCES_LOOKED_AT_MAX = 10_000
_UNCOMPRESSED = ("1.2.840.10008.1.2.1", "1.2.840.10008.1.2")

TRANSFER_SYNTAXES = (
    *_UNCOMPRESSED,
    "1.2.840.10008.1.2.4.70",  # JPEG Lossless, selection value 1
    "1.2.840.10008.1.2.4.90",  # JPEG 2000 lossless
    "1.2.840.10008.1.2.4.80",  # JPEG-LS lossless
    "1.2.840.10008.1.2.5",  # RLE Lossless
    "1.2.840.10008.1.2.4.50",  # JPEG Baseline
    "1.2.840.10008.1.2.4.91",  # JPEG 2000
    "1.2.840.10008.1.2.2",  # Explicit VR Big Endian
    "1.2.840.10008.1.2.1.99",  # Deflated Explicit VR Little Endian
    "1.2.840.10008.1.2.4.57",  # JPEG Lossless
    "1.2.840.10008.1.2.4.51",  # JPEG Extended
    "1.2.840.10008.1.2.4.81",  # JPEG-LS near-lossless
    "1.2.840.10008.1.2.4.201",  # High-Throughput JPEG 2000 lossless
    "1.2.840.10008.1.2.4.202",  # the same with RPCL
    "1.2.840.10008.1.2.4.203",  # High-Throughput JPEG 2000
    "1.2.840.10008.1.2.4.102",  # MPEG-4 AVC/H.264 High Profile
    "1.2.840.10008.1.2.4.103",
    "1.2.840.10008.1.2.4.107",  # HEVC/H.265 Main Profile
    "1.2.840.10008.1.2.4.100",  # MPEG2 Main Profile
    "1.2.840.10008.1.2.4.92",  # JPEG 2000 Part 2 lossless
    "1.2.840.10008.1.2.4.93",
    "1.2.840.10008.1.2.4.53",  # JPEG, retired
    "1.2.840.10008.1.2.4.55",
    "1.2.840.10008.1.2.4.110",  # JPEG XL lossless
    "1.2.840.10008.1.2.4.112",  # JPEG XL
)
"""In which archives hold images, those met most often first: each SOP Class gets as many as fit."""

_ANYWHERE = (
    "1.2.840.10008.5.1.4.1.1.7",  # Secondary Capture
    "1.2.840.10008.5.1.4.1.1.88.22",  # Enhanced SR
    "1.2.840.10008.5.1.4.1.1.88.67",  # X-Ray Radiation Dose SR
    "1.2.840.10008.5.1.4.1.1.88.59",  # Key Object Selection Document
    "1.2.840.10008.5.1.4.1.1.11.1",  # Grayscale Softcopy Presentation State
)
_BY_MODALITY = {
    "CT": ("1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.2.1"),
    "MR": ("1.2.840.10008.5.1.4.1.1.4", "1.2.840.10008.5.1.4.1.1.4.1"),
    "CR": ("1.2.840.10008.5.1.4.1.1.1",),
    "DX": ("1.2.840.10008.5.1.4.1.1.1.1", "1.2.840.10008.5.1.4.1.1.1.1.1"),
    "MG": (
        "1.2.840.10008.5.1.4.1.1.1.2",
        "1.2.840.10008.5.1.4.1.1.1.2.1",
        "1.2.840.10008.5.1.4.1.1.13.1.3",
    ),
    "PT": ("1.2.840.10008.5.1.4.1.1.128", "1.2.840.10008.5.1.4.1.1.130"),
    "NM": ("1.2.840.10008.5.1.4.1.1.20",),
    "US": ("1.2.840.10008.5.1.4.1.1.6.1", "1.2.840.10008.5.1.4.1.1.3.1"),
    "XA": ("1.2.840.10008.5.1.4.1.1.12.1", "1.2.840.10008.5.1.4.1.1.12.1.1"),
    "RF": ("1.2.840.10008.5.1.4.1.1.12.2",),
    "SEG": ("1.2.840.10008.5.1.4.1.1.66.4",),
    "SR": (
        "1.2.840.10008.5.1.4.1.1.88.11",
        "1.2.840.10008.5.1.4.1.1.88.33",
        "1.2.840.10008.5.1.4.1.1.88.34",
    ),
    "RTSTRUCT": ("1.2.840.10008.5.1.4.1.1.481.3",),
}
"""For peers that tell the modality of a series and no SOP Class."""


@dataclass(frozen=True)
class Contents:
    """What is in a study or series."""

    sop_class_uids: tuple[str, ...]
    transfer_syntax_uids: tuple[str, ...] = ()
    """(0008,3002) Available Transfer Syntax UID, of peers that tell it."""

    def contexts(self) -> list[tuple[str, str]]:
        """Return the presentation contexts to propose: SOP Class UID and Transfer Syntax UID.

        Every SOP Class can come uncompressed before any of them gets its third transfer syntax.
        """
        order = dict.fromkeys((*_UNCOMPRESSED, *self.transfer_syntax_uids, *TRANSFER_SYNTAXES))
        pairs = [(sop_class, syntax) for syntax in order for sop_class in self.sop_class_uids]
        return pairs[:CONTEXTS_MAX]


def contents_of(
    address: Address, study_instance_uid: str, series_instance_uid: str | None = None
) -> Contents:
    """Ask a peer for the SOP Classes of a study, or of one of its series.

    By (0008,0062) SOP Classes in Study if the peer tells it, else instance by instance, else by
    what is usual for the modalities.

    Raises
    ------
    PeerUnreachable, PeerRefused, DeliveryError
        As `Query.find`.
    """
    study = {"StudyInstanceUID": study_instance_uid}
    with Query(address) as query:
        if series_instance_uid is None:
            found = query.find(Level.STUDY, {**study, "SOPClassesInStudy": ""})
            told = {uid for one in found.matches for uid in one.get("SOPClassesInStudy", ()) if uid}
            if told:
                return _ordered(told)
        wanted = {**study, "SeriesInstanceUID": series_instance_uid or "", "Modality": ""}
        series = query.find(Level.SERIES, wanted).matches
        images = [
            match
            for uid in {text_in(one, "SeriesInstanceUID") for one in series} - {""}
            for match in query.find(
                Level.IMAGE,
                {
                    **study,
                    "SeriesInstanceUID": uid,
                    "SOPInstanceUID": "",
                    "SOPClassUID": "",
                    "AvailableTransferSyntaxUID": "",
                },
                matches_max=_INSTANCES_LOOKED_AT_MAX,
            ).matches
        ]
    told = {text_in(match, "SOPClassUID") for match in images} - {""}
    if series and not told:
        modalities = {text_in(one, "Modality") for one in series} & _BY_MODALITY.keys()
        usual = {uid for one in modalities or _BY_MODALITY.keys() for uid in _BY_MODALITY[one]}
        return _ordered(usual.union(_ANYWHERE))
    return _ordered(told, {text_in(match, "AvailableTransferSyntaxUID") for match in images} - {""})


def _ordered(sop_class_uids: Collection[str], syntaxes: Collection[str] = ()) -> Contents:
    return Contents(tuple(sorted(sop_class_uids)), tuple(sorted(syntaxes)))
