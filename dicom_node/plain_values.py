"""Values as text, as pydicom's `str` gives them, where that is plain; else `NotPlain`.

Each VR has its own rules for padding, several values and numbers, and pydicom has its own on top
of PS3.5 6.2. Followed here, step by step, is what pydicom does with a value that has nothing
remarkable about it; text with escape sequences, numbers that are none, a NUL within a value and
the like are not plain.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

from pydicom.charset import python_encoding

Texts = tuple[str, ...]

_LATIN_1 = "latin-1"
_INTEGER_DIGITS_MAX = 15  # pydicom compares with a float, which is exact that far
_ESCAPE = b"\x1b"
# encodings in which pydicom's way through text and back again changes nothing ...
_OF_EXTENSIONS = frozenset({"iso2022_jp", "iso2022_jp_2", "iso_ir_58", "GB2312"})
_OF_SEVERAL_BYTES = frozenset({"shift_jis", "euc_kr", "GB18030", "GBK"})  # ... of ASCII
_KNOWN = frozenset(python_encoding.values()) - _OF_EXTENSIONS


class NotPlain(ValueError):
    """Only pydicom knows what it makes of a value."""


def texts_of(vr: bytes, value: bytes, encoding: str, byte_order: str) -> Texts:
    r"""Return the text of each value of an element.

    Parameters
    ----------
    vr : bytes
        Two letters.
    value : bytes
        The Value Field.
    encoding : str
        Python's name for the first of the Specific Character Sets (PS3.3 C.12.1.1.2).
    byte_order : str
        `<` or `>`.

    Returns
    -------
    tuple of str
        Empty if the value is empty and of a VR of numbers; one empty text if of one of text.

    Raises
    ------
    NotPlain
    """
    if vr in _TEXT:
        read_text = _TEXT[vr]
        return read_text(_decoded(value, encoding, vr)) if value else ("",)
    if vr in _ASCII:
        read_ascii = _ASCII[vr]
        if not value:
            return () if vr in _NUMBER_STRINGS else ("",)
        try:
            return read_ascii(value.decode(_LATIN_1))
        except ValueError as error:
            raise NotPlain from error
    if vr in _NUMBERS:
        return _numbers(value, byte_order, *_NUMBERS[vr])
    if vr == b"AT":
        return _tags(value, byte_order)
    raise NotPlain


def _decoded(value: bytes, encoding: str, vr: bytes) -> str:
    if _ESCAPE in value or encoding not in _KNOWN:
        raise NotPlain
    if vr == b"PN" and encoding in _OF_SEVERAL_BYTES and not value.isascii():
        raise NotPlain
    try:
        return value.decode(encoding)
    except UnicodeError as error:
        raise NotPlain from error


def _without_nul(text: str) -> str:
    if "\0" in text:
        raise NotPlain
    return text


def _text(text: str) -> Texts:
    return tuple([value.rstrip("\0 ") for value in _inner(text).split("\\")])


def _inner(text: str) -> str:
    """Return a text without padding."""
    return _without_nul(text.rstrip("\0 "))


def _long_text(text: str) -> Texts:
    return (_inner(text),)


def _names(text: str) -> Texts:
    """Return names without empty component groups at their end (PS3.5 6.2.1)."""
    return tuple([name.rstrip("=") for name in _inner(text).split("\\")])


def _strings(text: str) -> Texts:
    return tuple(_inner(text).split("\\"))


def _stripped(text: str) -> Texts:
    return tuple([value.strip() for value in _without_nul(text).split("\\")])


def _uids(text: str) -> Texts:
    return tuple([value.strip() for value in _inner(text).split("\\")])


def _uri(text: str) -> Texts:
    return (_without_nul(text).rstrip(),)


def _decimals(text: str) -> Texts:
    return tuple([_number(value, float) for value in _inner(text.strip()).split("\\")])


def _integers(text: str) -> Texts:
    values = _inner(text).split("\\")
    if max(map(len, values)) > _INTEGER_DIGITS_MAX:
        raise NotPlain
    return tuple([_number(value, int) for value in values])


def _number(text: str, kind: Callable[[str], float]) -> str:
    stripped = text.strip()
    if not stripped:
        return text
    kind(text)
    return stripped


def _numbers(value: bytes, byte_order: str, letter: str, size: int) -> Texts:
    count, rest = divmod(len(value), size)
    if rest:
        raise NotPlain
    numbers = struct.unpack(f"{byte_order}{count}{letter}", value)
    if count > 1 and numbers[0] < 0:
        raise NotPlain  # of a LUT Descriptor, which pydicom repairs
    return tuple(map(str, numbers))


def _tags(value: bytes, byte_order: str) -> Texts:
    if len(value) % 4:
        raise NotPlain
    numbers = iter(struct.unpack(f"{byte_order}{len(value) // 2}H", value))
    pairs = zip(numbers, numbers, strict=True)
    return tuple(f"({group:04X},{element:04X})" for group, element in pairs)


_TEXT: dict[bytes, Callable[[str], Texts]] = {
    b"LO": _text,
    b"LT": _long_text,
    b"PN": _names,
    b"SH": _text,
    b"ST": _long_text,
    b"UC": _text,
    b"UT": _long_text,
}
"""VRs to which the Specific Character Set applies (PS3.5 6.1.2.3)."""
_ASCII: dict[bytes, Callable[[str], Texts]] = {
    b"AE": _stripped,
    b"AS": _strings,
    b"CS": _strings,
    b"DA": _strings,
    b"DS": _decimals,
    b"DT": _strings,
    b"IS": _integers,
    b"TM": _strings,
    b"UI": _uids,
    b"UR": _uri,
}
_NUMBER_STRINGS = frozenset({b"DS", b"IS"})
_NUMBERS = {
    b"FD": ("d", 8),
    b"FL": ("f", 4),
    b"SL": ("l", 4),
    b"SS": ("h", 2),
    b"SV": ("q", 8),
    b"UL": ("L", 4),
    b"US": ("H", 2),
    b"UV": ("Q", 8),
}
TEXT_VRS = frozenset(_TEXT) | frozenset(_ASCII)
"""VRs of text, numbers as text among them."""
