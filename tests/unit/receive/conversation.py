"""One association without a socket, a thread or a log: what is fed, answered and to be kept.

It does what `Connection` and the loop do, on the test's thread: between two pieces that are fed,
whatever the other threads would have done is done.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dicom_node.config.settings import Config, NodeSettings, Peer, ReceiveSettings
from dicom_node.errors import ProtocolBroken, StorageError
from dicom_node.harness.answers import Accepted, Answer, Data, decode, parse_command_set
from dicom_node.harness.pdu import (
    VERIFICATION,
    Context,
    associate_rq,
    c_store_rq,
    fragments,
    p_data,
)
from dicom_node.ledger.arrivals import LoggedRow, NotedEvent
from dicom_node.ledger.associations import AssociationEnd
from dicom_node.protocol.command import Element
from dicom_node.protocol.pdu import AbortReason, abort
from dicom_node.receive.arriving import BlockPool
from dicom_node.receive.association import Association
from dicom_node.receive.doorway import Doorway, KnownDigest
from dicom_node.receive.policy import Caller
from dicom_node.receive.rows import row_of
from dicom_node.receive.service import EventReport, Service, ServiceReply, ServiceRequest
from dicom_node.receive.upper_layer import UpperLayer
from dicom_node.store.disk import LogDisk
from dicom_node.store.large import LargeFile, LargeFileWriter
from dicom_node.store.local import LocalStore
from dicom_node.store.receive_log import Entry
from dicom_node.store.record import BLOCK_BYTES, digest_of, read_head, write_head
from tests.factories import CT_SERIES, make_instance
from tests.unit.receive.data_sets import EXPLICIT, encoded

NOW = 1000.0
CT = "1.2.840.10008.5.1.4.1.1.2"
STUDY_ROOT = "1.2.840.10008.5.1.4.1.2.2.1"
CONTEXTS = [Context(1, VERIFICATION), Context(3, CT), Context(5, STUDY_ROOT)]
REQUEST = associate_rq(CONTEXTS, called="DICOM_NODE")
PEERS = {"scanner": Peer(ae_title="SCANNER", may_send=True)}


class CountingPool(BlockPool):
    """Knows how many blocks are out, and how many were at most."""

    def __init__(self) -> None:
        super().__init__()
        self.out = 0
        self.out_max = 0

    def take(self) -> memoryview:
        self.out += 1
        self.out_max = max(self.out, self.out_max)
        return super().take()

    def give(self, block: memoryview) -> None:
        self.out -= 1
        assert self.out >= 0, "a block was given back twice"
        super().give(block)


class WriterAtOnce(LargeFileWriter):
    """Writes large files on the caller's thread."""

    def write(
        self, file: LargeFile, block: memoryview, used: int, done: Callable[[], None]
    ) -> None:
        self._do(file, lambda: file.write([block], used))
        done()

    def finish(self, file: LargeFile, relative: str, done: Callable[[], None]) -> None:
        self._do(file, lambda: file.finish(relative))
        if file.error is not None:
            file.drop()
        done()

    def drop(self, file: LargeFile) -> None:
        file.drop()

    def _do(self, file: LargeFile, work: Callable[[], None]) -> None:
        try:
            if file.error is None:
                work()
        except StorageError as error:
            file.error = error


class QuietDoorway(Doorway):
    """Runs services on the caller's thread."""

    def serve(
        self,
        service: Service,
        request: ServiceRequest,
        reply: Callable[[ServiceReply | EventReport], None],
        ended: Callable[[], None],
    ) -> None:
        def run() -> None:
            for answer in service(request):
                reply(answer)
            ended()

        self.call_soon(run)


class QuietLine:
    """Keeps what is sent.

    Parameters
    ----------
    read_no_more : callable
        Told when the last word is said.
    """

    def __init__(self, read_no_more: Callable[[], None]) -> None:
        self._read_no_more = read_no_more
        self.address = "127.0.0.1"
        self.over_tls = False
        self.sent = bytearray()
        self.is_held = False
        self.is_finished = False

    def caller(self, calling_ae_title: str, called_ae_title: str) -> Caller:
        return Caller(calling_ae_title, called_ae_title, self.address)

    def send(self, data: bytes) -> None:
        assert not self.is_finished, "something was sent behind the last word"
        self.sent += data

    def hold(self, wanted: bool) -> None:
        self.is_held = wanted

    def finish(self) -> None:
        self._read_no_more()
        self.is_finished = True

    def close(self) -> None:
        self.is_finished = True


@dataclass(frozen=True)
class Kept:
    """What the log was given."""

    row: LoggedRow
    part10: bytes
    """Of an instance in the log."""
    data_set: bytes


class Hall:
    """What the associations of one receiver share.

    Parameters
    ----------
    folder : Path
        Of the store.
    is_log_slow : bool
        The log says nothing until `write_log`.
    settings
        Of `receive`.
    """

    def __init__(
        self,
        folder: Path,
        *,
        services: Mapping[str, Service] | None = None,
        known_digest: KnownDigest | None = None,
        is_log_slow: bool = False,
        **settings: Any,
    ) -> None:
        self.config = Config(
            node=NodeSettings(ae_title="DICOM_NODE"),
            receive=ReceiveSettings(**({"free_bytes_min": 0} | settings)),
            peers=PEERS,
        )
        self.store = LocalStore(folder)
        self.kept: list[Kept] = []
        self.log_error: OSError | None = None
        self.is_log_slow = is_log_slow
        self._unwritten: list[Entry] = []
        self._calls: deque[Callable[[], None]] = deque()
        self.doorway = QuietDoorway(
            self.config,
            self.store,
            WriterAtOnce(self.store, LogDisk()),
            self._append,
            self._calls.append,
            services or {},
            lambda: NOW,
            known_digest,
        )
        self.pool = CountingPool()
        self.doorway.pool = self.pool

    def rows(self, kind: type[LoggedRow]) -> list[Any]:
        return [kept.row for kept in self.kept if isinstance(kept.row, kind)]

    def write_log(self) -> None:
        """Let the log write what it was given, and tell the owners."""
        entries, self._unwritten = self._unwritten, []
        for entry in entries:
            entry.segment_number, entry.error = 1, self.log_error
            if entry.error is None:
                self.kept.append(_kept(entry))
            if entry.owner is not None:
                entry.owner(entry)

    def turn(self) -> None:
        """Let everybody do what there is to do."""
        while self._calls or (self._unwritten and not self.is_log_slow):
            while self._calls:
                self._calls.popleft()()
            if not self.is_log_slow:
                self.write_log()

    def _append(self, entry: Entry) -> None:
        self._unwritten.append(entry)


def _kept(entry: Entry) -> Kept:
    """Return what the log says of an entry, now and when it is read again."""
    head = entry.head
    record = bytearray(b"".join(entry.buffers) or bytes(BLOCK_BYTES))
    write_head(
        memoryview(record),
        head.kind,
        head.segment_number,
        head.offset,
        head.texts,
        head.data_offset,
        head.data_bytes,
        head.digest,
    )
    again = read_head(bytes(record[:BLOCK_BYTES]), head.segment_number, head.offset)
    assert again is not None
    row = row_of(head, "log/0")
    assert row_of(again, "log/0") == row
    end = entry.data_offset + entry.data_bytes
    data_set = bytes(record[entry.data_offset : end])
    assert not entry.data_bytes or digest_of(data_set) == entry.digest
    return Kept(row, bytes(record[BLOCK_BYTES:end]), data_set)


class Conversation:
    """One association of a hall."""

    def __init__(self, hall: Hall) -> None:
        self.hall = hall
        self.line = QuietLine(lambda: self._upper.end())
        self.association = Association(hall.doorway, self.line)
        self._upper = UpperLayer(self.association, hall.config.receive.pdu_bytes_max)
        self._read_bytes = 0
        self.broken: ProtocolBroken | None = None

    @property
    def is_over(self) -> bool:
        return self.line.is_finished

    def feed(self, *pieces: bytes) -> None:
        """Read pieces as they come; nothing is read any more once it is over."""
        for piece in pieces:
            if self.is_over:
                return
            assert not self.line.is_held
            self._read(memoryview(bytearray(piece)))
            self.hall.turn()

    def close(self) -> None:
        """Let the peer be gone, as a connection tells it."""
        if self.association.is_open:
            self.association.end(AssociationEnd.LOST, "LOST", "the peer closed the connection")
        self.hall.turn()

    def answers(self) -> list[Answer]:
        """Return every PDU that was sent since the last call."""
        sent = bytes(self.line.sent[self._read_bytes :])
        self._read_bytes += len(sent)
        return list(pdus_in(sent))

    def _read(self, rest: memoryview) -> None:
        try:
            room = self._upper.room()
            if room is not None:
                size = min(len(room), len(rest))
                room[:size] = rest[:size]
                self._upper.took(size)
                rest = rest[size:]
            self._upper.feed(rest)
        except ProtocolBroken as error:
            self.broken = error
            self.line.send(abort(AbortReason(error.reason)))
            self.association.end(AssociationEnd.ABORTED, "BROKEN", error.message)
            self.line.finish()


def pdus_in(sent: bytes) -> Iterator[Answer]:
    """Yield the PDUs; a part of one would be a mistake."""
    at = 0
    while at < len(sent):
        length = int.from_bytes(sent[at + 2 : at + 6], "big")
        assert at + 6 + length <= len(sent)
        yield decode(sent[at], sent[at + 6 : at + 6 + length])
        at += 6 + length


# ------------------------------------------------------------ what is fed, and what came of it


def established(hall: Hall, request: bytes = REQUEST) -> Conversation:
    """Return one whose association is accepted."""
    talk = Conversation(hall)
    talk.feed(request)
    [answer] = talk.answers()
    assert isinstance(answer, Accepted)
    return talk


def message(context_id: int, command: bytes, data_set: bytes | None = None) -> bytes:
    pdvs = [*fragments(context_id, command, 100_000, command=True)]
    if data_set is not None:
        pdvs += fragments(context_id, data_set, 100_000)
    return b"".join(p_data(one) for one in pdvs)


def a_store(number: int = 1, message_id: int = 1, **changes: Any) -> bytes:
    """Return the C-STORE of an instance; its command has the UIDs that it would have unchanged."""
    command = c_store_rq(CT, f"{CT_SERIES}.{number}", message_id=message_id)
    return message(3, command, encoded(make_instance(number=number, **changes), EXPLICIT))


def a_large_data_set(size: int = 5 << 20) -> bytes:
    """Return a data set whose pixels have so many bytes."""
    header = encoded(make_instance(PixelData=None), EXPLICIT)
    return header + b"\xe0\x7f\x10\0OW\0\0" + size.to_bytes(4, "little") + bytes(size)


def pieces(data: bytes, size: int = 200_000) -> Iterator[bytes]:
    for begin in range(0, len(data), size):
        yield data[begin : begin + size]


def command_in(answer: Answer) -> dict[int, bytes]:
    assert isinstance(answer, Data)
    return parse_command_set(b"".join(pdv.fragment for pdv in answer.pdvs if pdv.header & 1))


def statuses(talk: Conversation) -> list[int]:
    """Return those of the responses since the last look."""
    return [int.from_bytes(command_in(a)[Element.STATUS], "little") for a in talk.answers()]


def reasons(hall: Hall) -> list[str]:
    return [row.reason for row in hall.rows(NotedEvent)]


def is_empty(hall: Hall) -> bool:
    """Return whether nothing is in memory and nothing half on disk."""
    return hall.pool.out == 0 and not list(hall.store.incoming.iterdir())
