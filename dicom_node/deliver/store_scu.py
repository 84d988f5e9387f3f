"""Sending results by C-STORE: their bytes as they lie in the store, over one association."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydicom.uid import UID
from pynetdicom import AE, _config, build_context
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]

from dicom_node.errors import PeerRefused, PeerUnreachable

# pynetdicom would decode and encode again what it sends from a path; with this it sends the file
_config.STORE_SEND_CHUNKED_DATASET = True

_PDU_BYTES_MAX = 131072
_RESOURCES = frozenset({0x0110, 0x0213})  # processing failure, resource limitation (PS3.7 C)
_PAUSE_SEEN_TWICE_S = 0.01


@dataclass(frozen=True)
class Address:
    """Where a destination listens, and who we say we are."""

    host: str
    port: int
    called_ae_title: str
    calling_ae_title: str
    timeout_s: float


@dataclass(frozen=True)
class Item:
    """A Part 10 file to send."""

    path: Path
    sop_class_uid: str
    transfer_syntax_uid: str


def echo(address: Address) -> None:
    """C-ECHO a destination.

    Raises
    ------
    PeerUnreachable
        If there is no association or no answer.
    """
    association = _associate(address, {(str(Verification), UID("1.2.840.10008.1.2"))})
    try:
        if association.send_c_echo().get("Status") != 0x0000:
            raise PeerUnreachable(f"{address.called_ae_title} did not answer the C-ECHO")
    finally:
        _close(association)


def send(items: Sequence[Item], address: Address) -> Iterator[PeerRefused | str]:
    """Send files over one association; yield each one's outcome as soon as it is known.

    Yields
    ------
    PeerRefused or str
        For each item in order: why the destination did not take it, or in words that it did.

    Raises
    ------
    PeerUnreachable
        If there is no association, or it broke; the rest was not sent, and what was under way may
        or may not have arrived.
    """
    contexts = {(item.sop_class_uid, UID(item.transfer_syntax_uid)) for item in items}
    association = _associate(address, contexts)
    try:
        accepted = {
            (str(context.abstract_syntax), str(context.transfer_syntax[0]))
            for context in association.accepted_contexts
        }
        for item in items:
            if (item.sop_class_uid, item.transfer_syntax_uid) not in accepted:
                name = UID(item.sop_class_uid).name
                yield PeerRefused(
                    f"{address.called_ae_title} accepts no {name}",
                    status=0x0122,  # SOP Class not supported (PS3.7 C.5.6)
                    hint="have the destination configured to accept it, then retry",
                )
                continue
            yield _store(association, item, address)
    finally:
        _close(association)


def _store(association: Any, item: Item, address: Address) -> PeerRefused | str:
    if not association.is_established:
        raise PeerUnreachable(f"{address.called_ae_title} ended the association")
    _pause_reactor(association)
    try:
        status = association.send_c_store(item.path).get("Status")
    except (RuntimeError, OSError) as error:
        raise PeerUnreachable(f"{address.called_ae_title} ended the association") from error
    if status is None:
        raise PeerUnreachable(
            f"{address.called_ae_title} gave no answer within {address.timeout_s:g} s"
        )
    if status == 0x0000:
        return "stored"
    if status & 0xF000 == 0xB000:
        return f"stored with warning 0x{status:04X}"
    return PeerRefused(
        f"{address.called_ae_title} answered 0x{status:04X}",
        status=status,
        retryable=status & 0xFF00 == 0xA700 or status in _RESOURCES,
        hint="look into the destination's log",
    )


def _pause_reactor(association: Any) -> None:
    """Make sure that pynetdicom's reactor does not take the answer that the sender waits for.

    `send_c_store` clears the checkpoint and goes on when it sees `_is_paused`; but the reactor may
    have passed the checkpoint just before, with `_is_paused` not yet withdrawn, and then takes one
    more message. Clearing it here first and seeing the pause twice closes that gap.
    """
    association._reactor_checkpoint.clear()
    deadline = time.monotonic() + 1.0
    seen = 0
    while seen < 2 and time.monotonic() < deadline:
        time.sleep(_PAUSE_SEEN_TWICE_S / 2)
        seen = seen + 1 if association._is_paused else 0


def _associate(address: Address, contexts: set[tuple[str, UID]]) -> Any:
    ae: Any = AE(ae_title=address.calling_ae_title)
    ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = address.timeout_s
    ae.connection_timeout = address.timeout_s
    association = ae.associate(
        address.host,
        address.port,
        ae_title=address.called_ae_title,
        contexts=[build_context(sop_class, syntax) for sop_class, syntax in sorted(contexts)],
        max_pdu=_PDU_BYTES_MAX,
    )
    if association.is_established:
        with suppress(AttributeError, OSError):  # Nagle and delayed ACK cost 40 ms an instance
            association.dul.socket.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return association
    where = f"{address.called_ae_title} at {address.host} port {address.port}"
    if association.is_rejected:
        raise PeerUnreachable(
            f"{where} rejected the association",
            hint=f"have it admit the calling AE title {address.calling_ae_title}",
        )
    if association.is_aborted and association.acceptor.primitive is not None:
        raise PeerUnreachable(
            f"{where} accepts none of what we have to send",
            hint="have the destination accept Segmentation and Comprehensive 3D SR storage",
        )
    raise PeerUnreachable(f"{where} cannot be reached", hint="check its host, port and network")


def _close(association: Any) -> None:
    if association.is_established:
        association.release()
    else:
        association.kill()
