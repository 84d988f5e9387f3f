"""Sending results by C-STORE: their bytes as they lie in the store, over one association."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydicom.uid import UID

from dicom_node.deliver.originals import Original
from dicom_node.errors import PeerRefused, PeerUnreachable, ResultLost
from dicom_node.scu.address import SOP_CLASS_NOT_SUPPORTED, Address
from dicom_node.scu.part10 import Part10File
from dicom_node.scu.requestor import Requestor

SUCCESS = 0x0000
_TRANSIENT = frozenset({0x0110, 0x0213})  # processing failure, resource limitation (PS3.7 C.5)


def echo(address: Address) -> None:
    """C-ECHO a destination.

    Raises
    ------
    PeerUnreachable
        If there is no association or no answer.
    """
    with address.associate([]) as requestor:
        if requestor.echo() != SUCCESS:
            raise PeerUnreachable(f"{address.called_ae_title} did not answer the C-ECHO")


@dataclass(frozen=True)
class Item:
    """A Part 10 file to send, and the presentation context that it needs."""

    path: Path
    sop_class_uid: str
    transfer_syntax_uid: str


def send(items: Sequence[Item], address: Address) -> Iterator[PeerRefused | ResultLost | str]:
    """Send files over one association; yield each one's outcome as soon as it is known.

    Yields
    ------
    PeerRefused, ResultLost or str
        For each file in order: why the destination did not get it, or in words that it did.

    Raises
    ------
    PeerUnreachable
        If there is no association, or it broke; the rest was not sent, and what was under way may
        or may not have arrived.
    """
    contexts = [(item.sop_class_uid, item.transfer_syntax_uid) for item in items]
    with address.associate(contexts) as requestor:
        for item in items:
            yield _store(requestor, item, address)


def send_originals(originals: Sequence[Original], address: Address) -> Iterator[PeerRefused | str]:
    """Send data sets over one association; as `send`."""
    with address.associate([original.context for original in originals]) as requestor:
        for original in originals:
            file = Part10File(Path(), 0, original.context, original.sop_instance_uid)
            yield _outcome(requestor, file, original.data_set, address)


def _store(requestor: Requestor, item: Item, address: Address) -> PeerRefused | ResultLost | str:
    try:
        file = Part10File.read(item.path)
        content = file.data_set()
    except OSError as error:
        return _lost(item, str(error.strerror))
    if file.context != (item.sop_class_uid, item.transfer_syntax_uid):
        return _lost(item, "its head is broken")
    return _outcome(requestor, file, content, address)


def _outcome(
    requestor: Requestor, file: Part10File, content: bytes, address: Address
) -> PeerRefused | str:
    peer = address.called_ae_title
    if not requestor.accepts(file):
        name = UID(file.context[0]).name if file.context else "instance without a SOP Class"
        return PeerRefused(
            f"{peer} accepts no {name}",
            status=SOP_CLASS_NOT_SUPPORTED,
            hint="have the destination accept this SOP Class, then retry",
        )
    status = requestor.store(file, content)
    if status is None:
        raise PeerUnreachable(
            f"{peer} broke the association, or gave no answer within {address.timeout_s:g} s",
            hint="look into the destination's log",
        )
    if status == SUCCESS:
        return "stored"
    if status & 0xF000 == 0xB000:  # warnings: coerced, or not as the SOP Class says (PS3.4 B.2.3)
        return f"stored with warning 0x{status:04X}"
    return PeerRefused(
        f"{peer} answered 0x{status:04X}",
        status=status,
        retryable=status & 0xFF00 == 0xA700 or status in _TRANSIENT,
        hint="look into the destination's log",
    )


def _lost(item: Item, why: str) -> ResultLost:
    return ResultLost(
        f"our file {item.path.name} cannot be read: {why}",
        hint="restore it from a backup of data_dir, then retry the delivery",
    )
