"""From element header to element header, as far as (0020,000E): where the UIDs of an instance lie.

The walk reads tags, VRs and lengths and jumps over the values. It goes where pydicom would go, or
it stumbles: over tags out of order, a VR that PS3.5 6.2 does not know, an unknown character set, a
UID that is missing or of another VR, the end of the bytes. So where it arrives, it is right, and
where it stumbles, pydicom decides.

It arrives only with all four UIDs in hand, and whatever bytes it depends on it reads through
`Reads`: who keeps a trail of those reads (`Reads.trailed`) knows that a data set with the same
bytes at the same places has its UIDs at the same places.
"""

from __future__ import annotations

from typing import Final

from dicom_node.elements import (
    LONG_VRS,
    SHORT_VRS,
    UNDEFINED,
    VRS_OF_ITEMS,
    Buffer,
    Reads,
    Span,
    Stumbled,
    after_items,
    check_character_set,
    is_of_items,
    is_vr,
)

SPECIFIC_CHARACTER_SET: Final = 0x00080005
SOP_CLASS_UID: Final = 0x00080016
SOP_INSTANCE_UID: Final = 0x00080018
STUDY_INSTANCE_UID: Final = 0x0020000D
SERIES_INSTANCE_UID: Final = 0x0020000E

_VR = dict.fromkeys(
    (SOP_CLASS_UID, SOP_INSTANCE_UID, STUDY_INSTANCE_UID, SERIES_INSTANCE_UID), b"UI"
) | {SPECIFIC_CHARACTER_SET: b"CS"}
_NEXT = {
    SPECIFIC_CHARACTER_SET: SOP_CLASS_UID,
    SOP_CLASS_UID: SOP_INSTANCE_UID,
    SOP_INSTANCE_UID: STUDY_INSTANCE_UID,
    STUDY_INSTANCE_UID: SERIES_INSTANCE_UID,
    SERIES_INSTANCE_UID: 0,
}
_BEFORE_THE_FIRST = 0x0007FFFF


def walk_explicit(data: Buffer, reads: Reads) -> list[Span]:
    """Return where the values of the four UIDs lie, in the order of their tags.

    Parameters
    ----------
    data : bytes-like
        A data set, or its beginning. Never read beyond the four; their last may end beyond `data`.

    Raises
    ------
    Stumbled
        Over bytes that are left to pydicom.
    struct.error
        At the end of `data`.
    """
    spans: list[Span] = []
    read, read_length, short, long = reads.explicit, reads.length, SHORT_VRS, LONG_VRS
    previous, wanted, at = _BEFORE_THE_FIRST, SPECIFIC_CHARACTER_SET, 0
    while True:
        group, element, vr, length = read(data, at)
        tag = group << 16 | element
        at += 8
        if vr not in short:
            if vr not in long:
                raise Stumbled
            (length,) = read_length(data, at)
            at += 4
            if length == UNDEFINED:
                if vr not in VRS_OF_ITEMS:
                    raise Stumbled
                at = after_items(data, reads, at, True, 1)
                length = 0
        if not previous < tag < wanted:
            wanted = _note(data, reads, (previous, wanted, tag), vr, (at, at + length), spans)
            if not wanted:
                return spans
        previous = tag
        at += length


def walk_implicit(data: Buffer, reads: Reads) -> list[Span]:
    """As `walk_explicit`, for Implicit VR."""
    if is_vr(reads.explicit(data, 0)[2]):
        raise Stumbled  # pydicom takes it for Explicit VR
    spans: list[Span] = []
    read = reads.implicit
    previous, wanted, at = _BEFORE_THE_FIRST, SPECIFIC_CHARACTER_SET, 0
    while True:
        group, element, length = read(data, at)
        tag = group << 16 | element
        at += 8
        if length == UNDEFINED:
            if not is_of_items(tag):
                raise Stumbled
            at = after_items(data, reads, at, False, 1)
            length = 0
        if not previous < tag < wanted:
            wanted = _note(data, reads, (previous, wanted, tag), None, (at, at + length), spans)
            if not wanted:
                return spans
        previous = tag
        at += length


def _note(
    data: Buffer,
    reads: Reads,
    tags: tuple[int, int, int],
    vr: bytes | None,
    span: Span,
    spans: list[Span],
) -> int:
    """Note an element that is wanted, append the span of a UID; return what is wanted next or 0."""
    previous, wanted, tag = tags
    if wanted == SPECIFIC_CHARACTER_SET and tag > wanted:
        wanted = SOP_CLASS_UID  # there is none
    if tag == wanted:
        if vr is not None and vr != _VR[tag]:
            raise Stumbled
        if tag == SPECIFIC_CHARACTER_SET:
            check_character_set(data, reads, *span)
        else:
            spans.append(span)
        return _NEXT[tag]
    if previous < tag < wanted:
        return wanted
    raise Stumbled
