"""Our own side of a comparison: what a destination was sent, made anew from the store.

A result lies in the store as it went. An original may have gone as a copy that a profile changed,
and in another transfer syntax; and an archive may give it back in a third one.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from pydicom.uid import UID, ExplicitVRLittleEndian

from dicom_node.claims import Forwarded, Sent
from dicom_node.deliver.content import content_digest
from dicom_node.deliver.copies import Copies
from dicom_node.deliver.transcode import is_lossy, makes, transcode
from dicom_node.errors import DeliveryError, ResultLost, StorageError, StudyUnusable
from dicom_node.scu.content import Content
from dicom_node.scu.part10 import Part10File
from dicom_node.scu.retrieve import ReceivedInstance
from dicom_node.store.local import LocalStore

_PLAIN = str(ExplicitVRLittleEndian)
_RESTORE = "restore it from a backup of data_dir, then retry"


class Own:
    """Compares what came back with what we have.

    Parameters
    ----------
    copies : Copies
        Makes what profiles change.
    """

    def __init__(self, store: LocalStore, copies: Copies) -> None:
        self._store = store
        self._copies = copies

    def is_same(self, sent: Sent, returned: ReceivedInstance) -> bool | None:
        """Return whether what must not change is as it was sent.

        Returns
        -------
        bool or None
            None where nobody can say: pixels that were compressed with a loss and came back
            decoded depend on who decoded them.

        Raises
        ------
        ResultLost
            If ours cannot be read, or is no longer what was sent.
        """
        content, syntax = self._read(sent)
        with _reading_ours():
            mine = content.read()
            if syntax == returned.transfer_syntax_uid and content_digest(
                mine, syntax, decoded=False
            ) == _digest_of(returned, decoded=False):
                return True  # nothing was encoded anew
            decoded = content_digest(mine, syntax)
        theirs = _digest_of(returned)
        if theirs in (decoded, None):
            return theirs is not None
        if theirs == _digest_as_transcoded(content, syntax):
            return True
        was_decoded = is_lossy(syntax) and not UID(returned.transfer_syntax_uid).is_encapsulated
        return None if was_decoded else False

    def _read(self, sent: Sent) -> tuple[Content, str]:
        """Return the data set that was sent, and its transfer syntax here."""
        if isinstance(sent, Forwarded):
            return self._copy(sent)
        with _reading_ours():
            part = Part10File.read(self._store.path(sent.path)).data_set_part()
            return Content.of(part), sent.transfer_syntax_uid

    def _copy(self, sent: Forwarded) -> tuple[Content, str]:
        if sent.instance.digest != sent.digest:
            raise ResultLost(
                "it came again with other bytes since it was sent",
                hint="nothing to do: what came is forwarded by itself",
            )
        with _reading_ours():
            original = self._copies.copy(sent.instance, sent.profile)
        if original.sop_instance_uid != sent.sop_instance_uid:
            raise ResultLost(
                f"profile {sent.profile} was changed since it was sent",
                hint="retry the forward, and the copies go as they are made now",
            )
        return original.content, original.transfer_syntax_uid


@contextmanager
def _reading_ours() -> Iterator[None]:
    """Translate what hinders us: the destination is not to blame."""
    try:
        yield
    except OSError as error:
        why = error.strerror or "it is not there"
        raise ResultLost(f"ours cannot be read: {why}", hint=_RESTORE) from error
    except (StudyUnusable, StorageError, DeliveryError) as error:
        hint = error.hint or _RESTORE
        raise ResultLost(f"ours cannot be read: {error.message}", hint=hint) from error


def _digest_as_transcoded(content: Content, syntax: str) -> str | None:
    """Return the digest of ours as a destination got it that does not take its syntax."""
    if _PLAIN not in makes(syntax):
        return None
    try:
        return content_digest(transcode(content, syntax, _PLAIN).read(), _PLAIN)
    except StudyUnusable:
        return None


def _digest_of(returned: ReceivedInstance, *, decoded: bool = True) -> str | None:
    """Return the digest of what came back; None if it cannot be read."""
    try:
        return content_digest(returned.data_set, returned.transfer_syntax_uid, decoded=decoded)
    except StudyUnusable:
        return None
