"""What an acceptor answers, as values: PDUs of PS3.8 9.3 and the command sets in them."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

from dicom_node.harness.pdu import PduType


@dataclass(frozen=True)
class Accepted:
    """A-ASSOCIATE-AC (PS3.8 9.3.3)."""

    called: str
    calling: str
    contexts: dict[int, str]
    """Transfer syntax by the ID of each presentation context that is accepted."""
    refused: dict[int, int]
    """Result (PS3.8 Table 9-18) by the ID of each one that is not."""
    pdu_bytes_max: int | None
    """None where the peer says nothing."""
    user_items: tuple[tuple[int, bytes], ...]


@dataclass(frozen=True)
class Rejected:
    """A-ASSOCIATE-RJ (PS3.8 9.3.4)."""

    result: int
    source: int
    reason: int


@dataclass(frozen=True)
class Pdv:
    """One presentation data value of a P-DATA-TF."""

    context_id: int
    header: int
    fragment: bytes = field(repr=False)


@dataclass(frozen=True)
class Data:
    """P-DATA-TF (PS3.8 9.3.5)."""

    length: int
    """What the PDU's header says."""
    pdvs: tuple[Pdv, ...]


@dataclass(frozen=True)
class ReleaseRequested:
    """A-RELEASE-RQ."""


@dataclass(frozen=True)
class Released:
    """A-RELEASE-RP."""


@dataclass(frozen=True)
class Aborted:
    """A-ABORT (PS3.8 9.3.8)."""

    source: int
    reason: int


@dataclass(frozen=True)
class Closed:
    """The end of the connection; not a PDU."""

    reset: bool
    """Whether it ended by RST: what was still on its way here is lost."""


@dataclass(frozen=True)
class Unknown:
    """A PDU that no peer may send here, or one that cannot be decoded."""

    kind: int
    body: bytes = field(repr=False)


Answer = Accepted | Rejected | Data | ReleaseRequested | Released | Aborted | Closed | Unknown


def decode(kind: int, body: bytes) -> Answer:
    """Return the PDU of this type and body as a value, `Unknown` if it is broken."""
    try:
        return _decode(kind, body)
    except (struct.error, ValueError, IndexError):
        return Unknown(kind, body)


def parse_command_set(encoded: bytes) -> dict[int, bytes]:
    """Return the values of a command set by element number; ValueError if it is none."""
    values: dict[int, bytes] = {}
    at = 0
    while at < len(encoded):
        head = encoded[at : at + 8].ljust(8, b"\xff")  # half an element is none
        group, element, length = struct.unpack("<HHL", head)
        value = encoded[at + 8 : at + 8 + length]
        if group != 0 or len(value) != length:
            raise ValueError(f"no command set at byte {at}")
        values[element] = value
        at += 8 + length
    return values


def _decode(kind: int, body: bytes) -> Answer:
    if kind == PduType.A_ASSOCIATE_AC:
        return _decode_accepted(body)
    if kind == PduType.A_ASSOCIATE_RJ:
        return Rejected(body[1], body[2], body[3])
    if kind == PduType.P_DATA_TF:
        return Data(len(body), tuple(_pdvs(body)))
    if kind == PduType.A_RELEASE_RQ:
        return ReleaseRequested()
    if kind == PduType.A_RELEASE_RP:
        return Released()
    if kind == PduType.A_ABORT:
        return Aborted(body[2], body[3])
    return Unknown(kind, body)


def _decode_accepted(body: bytes) -> Accepted:
    if len(body) < 68:
        raise ValueError("an A-ASSOCIATE-AC ends before its items")
    contexts: dict[int, str] = {}
    refused: dict[int, int] = {}
    user_items: list[tuple[int, bytes]] = []
    for kind, value in _items(body[68:]):
        if kind == 0x21:
            context_id, result = value[0], value[2]
            syntaxes = [syntax for kind, syntax in _items(value[4:]) if kind == 0x40]
            if result == 0:
                contexts[context_id] = syntaxes[0].rstrip(b"\0 ").decode()
            else:
                refused[context_id] = result
        elif kind == 0x50:
            user_items = list(_items(value))
    limits = [struct.unpack(">L", value)[0] for kind, value in user_items if kind == 0x51]
    return Accepted(
        called=body[4:20].decode().strip(),
        calling=body[20:36].decode().strip(),
        contexts=contexts,
        refused=refused,
        pdu_bytes_max=limits[0] if limits else None,
        user_items=tuple(user_items),
    )


def _items(encoded: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at < len(encoded):
        kind, length = struct.unpack_from(">BxH", encoded, at)
        value = encoded[at + 4 : at + 4 + length]
        if len(value) != length:
            raise ValueError("an item is longer than what holds it")
        yield kind, value
        at += 4 + length


def _pdvs(body: bytes) -> Iterator[Pdv]:
    at = 0
    while at < len(body):
        length, context_id, header = struct.unpack_from(">LBB", body, at)
        fragment = body[at + 6 : at + 4 + length]
        if length < 2 or len(fragment) != length - 2:
            raise ValueError("a PDV does not fit into its PDU")
        yield Pdv(context_id, header, fragment)
        at += 4 + length
