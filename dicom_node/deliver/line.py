"""One line to a destination: an association that is there when an instance wants to go out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Self

from pydicom.uid import UID

from dicom_node.deliver.originals import Original
from dicom_node.deliver.transcode import makes, transcode
from dicom_node.errors import PeerRefused, PeerUnreachable, ResultLost, StorageError, StudyUnusable
from dicom_node.scu.address import SOP_CLASS_NOT_SUPPORTED, Address
from dicom_node.scu.negotiation import CONTEXTS_MAX
from dicom_node.scu.requestor import Requestor

SUCCESS = 0x0000

Context = tuple[str, str]
"""SOP Class UID and Transfer Syntax UID."""
Outcome = PeerRefused | ResultLost | PeerUnreachable | str
"""Why a destination did not get an instance, or in words that it did."""


def contexts_for(context: Context) -> list[Context]:
    """Return what is proposed for an instance: itself unchanged, then what can be made of it."""
    sop_class_uid, transfer_syntax_uid = context
    return [context, *((sop_class_uid, made) for made in makes(transfer_syntax_uid))]


def proposals(contexts: Sequence[Context]) -> list[frozenset[Context]]:
    """Return what is proposed when each of these goes out, as few associations as it takes.

    Returns
    -------
    list of frozenset
        One for each of `contexts`; neighbours have the same one as long as it fits into one
        association.
    """
    found: list[frozenset[Context]] = []
    together: set[Context] = set()
    begin = 0
    for at, context in enumerate(contexts):
        if context in together:
            continue
        wanted = set(contexts_for(context))
        if len(together | wanted) > CONTEXTS_MAX:
            found += [frozenset(together)] * (at - begin)
            together, begin = set(), at
        together |= wanted
    return found + [frozenset(together)] * (len(contexts) - begin)


class Line:
    """Sends instances to one destination, one after the other; a context manager that releases.

    Parameters
    ----------
    address : Address
    """

    def __init__(self, address: Address) -> None:
        self._address = address
        self._requestor: Requestor | None = None
        self._proposed: frozenset[Context] = frozenset()

    def open(self, proposed: frozenset[Context]) -> None:
        """Have an association on which these were proposed; PeerUnreachable if there is none."""
        if self._requestor is not None:
            if proposed == self._proposed:
                return
            self.close()
        self._requestor = self._address.associate(sorted(proposed))
        self._proposed = proposed

    def at_hand(self, original: Original) -> Original:
        """Return an instance with its file open, if it goes out as it is."""
        requestor = self._requestor
        if requestor is None or not requestor.accepts_context(original.context):
            return original
        return Original(
            original.sop_class_uid,
            original.sop_instance_uid,
            original.transfer_syntax_uid,
            original.content.at_hand(mapped=requestor.can_map),
        )

    def store(
        self, original: Original, meanwhile: Callable[[], None] | None = None
    ) -> PeerRefused | ResultLost | str:
        """Send an instance; return why the destination did not get it, or in words that it did.

        Parameters
        ----------
        meanwhile : callable, optional
            Is called while the destination is busy with the instance.

        Raises
        ------
        PeerUnreachable
            If the association broke: the instance may or may not have arrived.
        """
        if self._requestor is None:
            raise self._address.unreachable()
        peer = self._address.called_ae_title
        accepts = self._requestor.accepts_context
        context = original.context
        if not accepts(context):
            context = next(filter(accepts, contexts_for(context)), context)
            if context == original.context:
                return self._not_accepted(original)
        try:
            content = original.content
            if context != original.context:
                content = transcode(content, original.transfer_syntax_uid, context[1])
            status = self._requestor.store_content(
                context, original.sop_instance_uid, content, meanwhile=meanwhile
            )
        except StorageError as error:
            if not self._requestor.is_alive():
                self._requestor = None  # it ended in the middle of a data set, by our fault
            return ResultLost(error.message, hint=error.hint)
        except StudyUnusable as error:
            return PeerRefused(
                f"{peer} does not accept {UID(original.transfer_syntax_uid).name}, and the "
                f"instance cannot be converted: {error.message}",
                status=SOP_CLASS_NOT_SUPPORTED,
                hint="have the destination accept this transfer syntax, then retry",
            )
        if status is None:
            raise PeerUnreachable(
                f"{peer} {self._requestor.ending}", hint="look into the destination's log"
            )
        return self._outcome(status)

    def interrupt(self) -> None:
        """End what is under way; for another thread than the one that sends."""
        requestor = self._requestor
        if requestor is not None:
            requestor.interrupt()

    def close(self) -> None:
        """Release the association, if there is one."""
        if self._requestor is not None:
            self._requestor.release()
            self._requestor = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is not None and self._requestor is not None:
            self._requestor.abort()
        else:
            self.close()

    def _not_accepted(self, original: Original) -> PeerRefused:
        peer, what = self._address.called_ae_title, UID(original.sop_class_uid).name
        if any(uid == original.sop_class_uid for uid, _ in self._requestor_accepts()):
            syntax = UID(original.transfer_syntax_uid).name
            return PeerRefused(
                f"{peer} accepts no {what} in {syntax}, which cannot be converted",
                status=SOP_CLASS_NOT_SUPPORTED,
                hint="have the destination accept this transfer syntax, then retry",
            )
        return PeerRefused(
            f"{peer} accepts no {what}",
            status=SOP_CLASS_NOT_SUPPORTED,
            hint="have the destination accept this SOP Class, then retry",
        )

    def _requestor_accepts(self) -> Sequence[Context]:
        return list(self._requestor.accepted) if self._requestor is not None else []

    def _outcome(self, status: int) -> PeerRefused | str:
        if status == SUCCESS:
            return "stored"
        if status & 0xF000 == 0xB000:  # coerced, or not as the SOP Class says (PS3.4 B.2.3)
            return f"stored with warning 0x{status:04X}"
        return self._address.refused("C-STORE", status, hint="look into the destination's log")
