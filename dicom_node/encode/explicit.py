"""Elements in Explicit VR Little Endian, written one by one (PS3.5 7.1.2, A.2).

pydicom takes 20 microseconds an element, from its first check to its last byte; a Segmentation of
thousands of frames, or a report on hundreds of segments, has a hundred thousand of them, and nearly
all are alike. So they are bytes here from the start, and code sequences are made once. Whatever is
not repeated is left to pydicom.
"""

from __future__ import annotations

import struct
from functools import lru_cache

from pydicom.datadict import dictionary_VR, tag_for_keyword

from dicom_node.elements import LONG_VRS
from dicom_node.finding import Code

_ITEM = struct.pack("<HH", 0xFFFE, 0xE000)
_CODE_VALUE_MAX = 16
_CODE_MEANING_MAX = 64


@lru_cache(maxsize=256)
def _head(keyword: str) -> tuple[bytes, bool, bytes]:
    """Return tag and VR as bytes, whether the length has 32 bits, and what fills a value up."""
    tag = tag_for_keyword(keyword)
    if tag is None:
        raise ValueError(f"no attribute is called {keyword}")
    vr = dictionary_VR(tag).encode()
    is_long = vr in LONG_VRS
    head = struct.pack("<HH2s", tag >> 16, tag & 0xFFFF, vr)
    return head + b"\0\0" * is_long, is_long, b"\0" if vr in {b"UI", b"OB"} else b" "


def element(keyword: str, value: bytes) -> bytes:
    """Return a whole element; its value is filled up to an even length."""
    head, is_long, filling = _head(keyword)
    if len(value) % 2:
        value += filling
    return head + struct.pack("<I" if is_long else "<H", len(value)) + value


def head_of(keyword: str, length: int) -> bytes:
    """Return how an element begins whose value has 32 bits of length and follows."""
    head, is_long, _ = _head(keyword)
    if not is_long:
        raise ValueError(f"the length of {keyword} has 16 bits")
    return head + struct.pack("<I", length)


def text(keyword: str, value: str) -> bytes:
    """Return an element of text, in UTF-8: every result says ISO_IR 192."""
    return element(keyword, value.encode("utf-8", "replace"))


def unsigned_short(keyword: str, *values: int) -> bytes:
    """Return an element of VR US."""
    return element(keyword, struct.pack(f"<{len(values)}H", *values))


def item(*elements: bytes) -> bytes:
    """Return an item of a sequence, its elements in the order of their tags (PS3.5 7.5)."""
    return item_head(sum(map(len, elements))) + b"".join(elements)


def item_head(length: int) -> bytes:
    """Return how an item begins."""
    return _ITEM + struct.pack("<I", length)


def sequence(keyword: str, *items: bytes) -> bytes:
    """Return a sequence of items."""
    return element(keyword, b"".join(items))


@lru_cache(maxsize=4096)
def coded(keyword: str, code: Code) -> bytes:
    """Return a code sequence of one item (PS3.3 8.8).

    Raises
    ------
    ValueError
        If the meaning has more than 64 characters.
    """
    if len(code.meaning) > _CODE_MEANING_MAX:
        raise ValueError(
            f"the meaning of {code.value} has more than {_CODE_MEANING_MAX} characters"
        )
    named = (text("CodingSchemeDesignator", code.scheme), text("CodeMeaning", code.meaning))
    if len(code.value) <= _CODE_VALUE_MAX:
        return sequence(keyword, item(text("CodeValue", code.value), *named))
    is_urn = code.value.startswith("urn") or "://" in code.value
    value = text("URNCodeValue" if is_urn else "LongCodeValue", code.value)
    return sequence(keyword, item(*named, value))
