"""What attacks on a node are made of: small instances, broken bytes, and their answers."""

from __future__ import annotations

import random
import ssl
import struct
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import pytest

from dicom_node.harness.answers import Aborted, Answer, Closed, Rejected
from dicom_node.harness.pdu import VERIFICATION, Context, PdvHeader, c_store_rq, p_data, pdv
from dicom_node.harness.peer import ScriptedPeer

AE_TITLE = "DICOM_NODE"
AT_ONCE_S = 1.0
"""Shorter than every time-out: whoever is sent away so soon was not waited for."""

REJECTED, ABORTED, LOST = "REJECTED", "ABORTED", "LOST"
TIMED_OUT, BROKEN, REFUSED = "TIMED_OUT", "BROKEN", "REFUSED"
EVENTS = (REJECTED, ABORTED, LOST, TIMED_OUT, BROKEN, REFUSED)

SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2"
ECHO_ID, STORE_ID, CT_ID, REFUSED_ID = 1, 3, 5, 7
CONTEXTS = (
    Context(ECHO_ID, VERIFICATION),
    Context(STORE_ID, SECONDARY_CAPTURE),
    Context(CT_ID, CT_IMAGE),
    Context(REFUSED_ID, "1.2.826.0.1.3680043.10.1714.8"),  # nobody knows this SOP Class
)

ROOT = "1.2.826.0.1.3680043.10.1714.9"
STUDY = f"{ROOT}.1"
SERIES = f"{ROOT}.2"
IDENTITY = {
    0x00080050: ("SH", b"HIDDENACC "),
    0x00100010: ("PN", b"Hidden^Patient"),
    0x00100020: ("LO", b"HIDDEN-ID "),
    0x00100030: ("DA", b"19010203"),
}
"""What may never be seen outside of the data set."""

SUCCESS = 0x0000
OUT_OF_RESOURCES = 0xA700
DOES_NOT_MATCH = 0xA900
CANNOT_UNDERSTAND = 0xC000
REFUSALS = {DOES_NOT_MATCH, CANNOT_UNDERSTAND}

LAST = PdvHeader.LAST
COMMAND = PdvHeader.COMMAND
WHOLE_COMMAND = COMMAND | LAST
FOUR_GIB = 0xFFFFFFFF
MIB = 1 << 20
ESCAPE = "../../../escape"

Vanish = Callable[[ScriptedPeer], None]
"""A way to leave."""


# ------------------------------------------------------------ instances


def data_set(
    sop_instance_uid: str | bytes,
    *,
    sop_class_uid: str = SECONDARY_CAPTURE,
    study_instance_uid: str | bytes = STUDY,
    series_instance_uid: str | bytes = SERIES,
    pixel_bytes: int = 64,
) -> bytes:
    """Return a small data set in Explicit VR Little Endian; UIDs given as bytes stay as they are.

    The pixels come last and end with a count, so that no two of one size are equal.
    """
    pixels = bytes(pixel_bytes - 8) + next(_numbers).to_bytes(8, "little")
    elements: dict[int, tuple[str, bytes]] = {
        0x00080016: ("UI", _padded(sop_class_uid)),
        0x00080018: ("UI", _padded(sop_instance_uid)),
        **IDENTITY,
        0x0020000D: ("UI", _padded(study_instance_uid)),
        0x0020000E: ("UI", _padded(series_instance_uid)),
        0x7FE00010: ("OW", pixels),
    }
    return b"".join(element(tag, *elements[tag]) for tag in sorted(elements))


def element(tag: int, vr: str, value: bytes) -> bytes:
    """Return one element in Explicit VR Little Endian (PS3.5 7.1.2)."""
    head = struct.pack("<HH2s", tag >> 16, tag & 0xFFFF, vr.encode())
    long = vr == "OW"
    return head + struct.pack("<xxL" if long else "<H", len(value)) + value


def new_uid() -> str:
    """Return a SOP Instance UID that no other case has; its length is odd."""
    uid = f"{ROOT}.3.{next(_numbers)}"
    return uid if len(uid) % 2 else f"{ROOT}.33.{next(_numbers)}"


def new_instance(**fields: Any) -> tuple[str, bytes]:
    """Return a SOP Instance UID and its data set."""
    uid = new_uid()
    return uid, data_set(uid, **fields)


def _padded(uid: str | bytes) -> bytes:
    encoded = uid if isinstance(uid, bytes) else uid.encode()
    return encoded if isinstance(uid, bytes) else encoded + b"\0" * (len(encoded) % 2)


_numbers = iter(range(1000, 1 << 62))


# ------------------------------------------------------------ bytes


def rows(table: Mapping[str, object]) -> pytest.MarkDecorator:
    """Return one test for each row of a table, called by the row's name."""
    return pytest.mark.parametrize("row", table.values(), ids=table.keys())


def noise(seed: int, size: int = 500) -> bytes:
    """Return random bytes that do not begin with the type of a PDU."""
    return b"\xd0" + random.Random(seed).randbytes(size)


def client_hello() -> bytes:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client = context.wrap_bio(incoming, outgoing, server_hostname="node")
    with suppress(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()


def store_rq(uid: str, **fields: int) -> bytes:
    """Return the P-DATA-TF of a whole C-STORE-RQ."""
    return p_data(pdv(STORE_ID, WHOLE_COMMAND, c_store_rq(SECONDARY_CAPTURE, uid, **fields)))


# ------------------------------------------------------------ answers


def gone(peer: ScriptedPeer, within_s: float = AT_ONCE_S) -> Answer:
    """Return how the node ended the connection: by A-ABORT, or by closing it."""
    answer = peer.receive(within_s)
    assert isinstance(answer, Aborted | Closed), answer
    return answer


def aborted(peer: ScriptedPeer, within_s: float = AT_ONCE_S) -> Aborted:
    """Return the A-ABORT that the node says."""
    answer = peer.receive(within_s)
    assert isinstance(answer, Aborted), answer
    return answer


def event_of(answer: Answer) -> tuple[str, ...]:
    """Return the event that belongs to an answer, where the standard leaves the node a choice."""
    if isinstance(answer, Rejected):
        return (REJECTED,)
    return (BROKEN,) if isinstance(answer, Aborted | Closed) else ()
