"""Whether a value matches a key of a C-FIND (PS3.4 C.2.2.2). Pure."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest

WILDCARD_VRS = frozenset({"AE", "CS", "LO", "LT", "PN", "SH", "ST", "UC", "UT"})
"""PS3.4 C.2.2.2.4."""


def matches(vr: str, wanted: Sequence[str], held: Sequence[str]) -> bool:
    """Return whether any of the values `held` matches any of those `wanted`.

    Parameters
    ----------
    vr : str
        Value representation of the attribute.
    wanted : sequence of str
        The key's values; none, or nothing but an asterisk, is universal matching. Several are a
        list, which the standard knows for UIDs only.
    held : sequence of str
        What the entity has; nothing is unknown, and matches whatever is wanted (PS3.4 C.2.2.1.2).
    """
    wanted = [value for value in wanted if value]
    held = [value for value in held if value]
    if is_universal(wanted) or not held:
        return True
    return any(_matches(vr, key, value) for key in wanted for value in held)


def is_universal(wanted: Sequence[str]) -> bool:
    """Return whether a key matches everything; also where its VR knows no asterisk."""
    return not any(wanted) or any(value and not value.strip("*") for value in wanted)


def _matches(vr: str, key: str, value: str) -> bool:
    if vr == "PN":
        return _names_match(key.casefold(), value.casefold())
    if vr in WILDCARD_VRS:
        return wildcard(key.strip(" "), value.strip(" "))
    if vr in {"DA", "TM"}:
        return _in_range(vr, key, value)
    if vr in {"IS", "DS"}:
        return _number(key) == _number(value)
    return key == value


def wildcard(pattern: str, text: str) -> bool:
    r"""Return whether `*` (any characters) and `?` (one) in a pattern make it the text.

    In steps of at most pattern times text: a regular expression would take exponentially many for
    a pattern made for that.

    >>> wildcard("DOE*J?N", "DOE^JAN"), wildcard("*", ""), wildcard("?", "")
    (True, True, False)
    """
    at = resume = 0
    star = -1
    there = 0
    while there < len(text):
        if at < len(pattern) and pattern[at] == "*":
            star, resume = at, there
            at += 1
        elif at < len(pattern) and pattern[at] in ("?", text[there]):
            at += 1
            there += 1
        elif star >= 0:  # let the last asterisk take one character more
            resume += 1
            at, there = star + 1, resume
        else:
            return False
    return not pattern[at:].strip("*")


def _names_match(key: str, value: str) -> bool:
    """Compare person names, their case folded, by component groups (PS3.5 6.2.1.2).

    A key of one group may match any of the groups: who looks for a name in kanji does not say
    that it stands in the second.
    """
    wanted = [group.rstrip("^ ") for group in key.split("=")]
    held = [group.rstrip("^ ") for group in value.split("=")]
    if len(wanted) == 1:
        return any(wildcard(wanted[0], group) for group in held)
    pairs = zip_longest(wanted, held[: len(wanted)], fillvalue="")
    return all(wildcard(group, name) for group, name in pairs if group)


def _in_range(vr: str, key: str, value: str) -> bool:
    """Compare dates or times: one of them, or a range that includes its ends (PS3.4 C.2.2.2.5)."""
    first, dash, last = (part.strip(" ") for part in key.partition("-"))
    if not dash:
        last = first
    if vr == "DA":
        first, last, value = (text.replace(".", "") for text in (first, last, value.strip(" ")))
        return (not first or first <= value) and (not last or value <= last)
    # a time may leave out what it does not know: 10 is any time from 10:00:00 up to 11:00:00
    return (not first or _time(first, "0") <= _time(value, "9")) and (
        not last or _time(value, "0") <= _time(last, "9")
    )


def _time(text: str, unknown: str) -> str:
    """Return a time as twelve digits, also from the notation of ACR-NEMA with colons."""
    return text.strip(" ").replace(":", "").replace(".", "").ljust(12, unknown)


def _number(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text.strip(" ")
