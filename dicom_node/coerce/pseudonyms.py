"""Replacements that depend on a secret and on what they replace, and on nothing else.

So they are the same for every instance of a study, for every study, after every restart and in
every process; who has not the secret can neither undo nor repeat them. The name of the profile
goes in too: the receivers of two profiles cannot join what they got.
"""

from __future__ import annotations

import base64
import hashlib
import hmac

_DAYS_MAX = 3652
"""Ten years: far enough to hide a date, near enough for a plausible one."""


class Pseudonyms:
    """The replacements of one profile.

    Parameters
    ----------
    secret : bytes
        At least 16 bytes that nobody else knows.
    profile : str
        The profile's name.
    """

    def __init__(self, secret: bytes, profile: str) -> None:
        if len(secret) < 16:
            raise ValueError("the secret is too short to be one")
        self._key = hmac.digest(secret, profile.encode("utf-8"), hashlib.sha256)

    def uid(self, original: str) -> str:
        """Return the UID that stands for another: 128 bits in the 2.25 arc (PS3.5 B.2)."""
        digest = self._digest("uid", original)
        return f"2.25.{int.from_bytes(digest[:16], 'big')}"

    def text(self, kind: str, original: str) -> str:
        """Return 16 letters and digits that stand for a value: they fit every text VR."""
        return base64.b32encode(self._digest(kind, original)[:10]).decode("ascii")

    def days(self, patient: str) -> int:
        """Return by how many days the dates of a patient are moved, always into the past."""
        number = int.from_bytes(self._digest("days", patient)[:8], "big")
        return -(1 + number % _DAYS_MAX)

    def _digest(self, kind: str, original: str) -> bytes:
        message = kind.encode("utf-8") + b"\0" + original.encode("utf-8", "surrogateescape")
        return hmac.digest(self._key, message, hashlib.sha256)
