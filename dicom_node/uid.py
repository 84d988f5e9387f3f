"""UIDs and AE titles: checked once at the edge, derived where a result needs one."""

from __future__ import annotations

import hashlib
import re
import secrets

LABELMAP_SEGMENTATION_STORAGE = "1.2.840.10008.5.1.4.1.1.66.7"
"""Label Map Segmentation Storage, of 2024: pydicom does not name it yet."""

_UID = re.compile(r"[0-9]+(\.[0-9]+)+")


def is_uid(text: str) -> bool:
    """Return whether `text` can be taken as a UID.

    Components with leading zeros break PS3.5 9.1 but scanners send them; they are harmless in
    a file name, so they pass. Anything but digits and dots, or over 64 characters, does not.
    """
    return len(text) <= 64 and _UID.fullmatch(text) is not None


def is_ae_title(text: str) -> bool:
    """Return whether `text` is an AE title: 1 to 16 printable, no backslash (PS3.5 6.2)."""
    stripped = text.strip(" ")
    return (
        0 < len(stripped) <= 16
        and "\\" not in stripped
        and all(32 <= ord(c) < 127 for c in stripped)
    )


def derived_uid(*parts: str) -> str:
    """Return the UID that belongs to `parts`: the same parts give the same UID, everywhere.

    The first 128 bits of SHA-256 over the length-prefixed parts, in the 2.25 arc (PS3.5 B.2).
    """
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode("utf-8")
        digest.update(len(data).to_bytes(8, "big"))
        digest.update(data)
    return f"2.25.{int.from_bytes(digest.digest()[:16], 'big')}"


def random_uid() -> str:
    """Return a UID that nobody can guess (PS3.5 B.2)."""
    return f"2.25.{secrets.randbits(128)}"
