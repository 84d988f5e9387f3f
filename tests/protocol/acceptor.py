"""A scripted acceptor: a listener whose every byte and every silence is a test's."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Self

from dicom_node.harness.answers import parse_command_set
from dicom_node.harness.pdu import (
    IMPLEMENTATION_CLASS_UID,
    NO_DATA_SET,
    PduType,
    PdvHeader,
    command_set,
    item,
    maximum_length,
    p_data,
    pdu,
    pdv,
    us,
)

TIMEOUT_S = 20.0
_LAST_OF_COMMAND = PdvHeader.COMMAND | PdvHeader.LAST


class Gone(Exception):
    """The requestor has ended the connection."""


class Caller:
    """One connection that came in; `pdus` has the length of each P-DATA-TF that was read."""

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection
        self.pdus: list[int] = []
        self.data_sets: list[bytes] = []

    # ------------------------------------------------------------ reading

    def read_pdu(self) -> tuple[int, bytes]:
        kind, length = struct.unpack(">BxL", self._read(6))
        if kind == PduType.P_DATA_TF:
            self.pdus.append(length)
        return kind, self._read(length)

    def read_message(self) -> dict[int, bytes]:
        """Return the next command set; its data set goes to `data_sets`."""
        command, data_set = b"", bytearray()
        parsed: dict[int, bytes] | None = None
        while True:
            kind, body = self.read_pdu()
            if kind != PduType.P_DATA_TF:
                raise Gone
            length, _, header = struct.unpack_from(">LBB", body)
            assert length + 4 == len(body)  # one PDV in each PDU
            if header & PdvHeader.COMMAND:
                command += body[6:]
                if header & PdvHeader.LAST:
                    parsed = parse_command_set(command)
                    if parsed[0x0800] == us(NO_DATA_SET):
                        return parsed
            else:
                data_set += body[6:]
                if header & PdvHeader.LAST:
                    assert parsed is not None
                    self.data_sets.append(bytes(data_set))
                    return parsed

    # ------------------------------------------------------------ answering

    def accept(self, pdu_bytes_max: int | None = 16384, *, result: int = 0) -> None:
        """Read an A-ASSOCIATE-RQ and accept every context in its first syntax, or none of them."""
        kind, request = self.read_pdu()
        assert kind == PduType.A_ASSOCIATE_RQ
        answer, at = request[:68], 68
        while at < len(request):
            kind, length = struct.unpack_from(">BxH", request, at)
            value = request[at + 4 : at + 4 + length]
            if kind == 0x10:
                answer += item(kind, value)
            elif kind == 0x20:
                first = 8 + struct.unpack_from(">xxH", value, 4)[0]
                size = struct.unpack_from(">xxH", value, first)[0]
                accepted = value[:1] + bytes([0, result, 0]) + value[first : first + 4 + size]
                answer += item(0x21, accepted)
            at += 4 + length
        user = item(0x52, IMPLEMENTATION_CLASS_UID.encode())
        if pdu_bytes_max is not None:
            user = maximum_length(pdu_bytes_max) + user
        self.send(pdu(PduType.A_ASSOCIATE_AC, answer + item(0x50, user)))

    def answer(
        self, request: dict[int, bytes], status: int = 0, *, message_id: int | None = None
    ) -> None:
        """Send the response to a request."""
        self.send_command(self.response(request, status, message_id=message_id))

    @staticmethod
    def response(
        request: dict[int, bytes], status: int = 0, *, message_id: int | None = None
    ) -> list[tuple[int, bytes]]:
        """Return the elements of a response; the status is the last."""
        field = struct.unpack("<H", request[0x0100])[0] | 0x8000
        return [
            (0x0002, request[0x0002]),
            (0x0100, us(field)),
            (0x0120, request[0x0110] if message_id is None else us(message_id)),
            (0x0800, us(NO_DATA_SET)),
            (0x0900, us(status)),
        ]

    def send_command(self, elements: list[tuple[int, bytes]]) -> None:
        self.send(p_data(pdv(3, _LAST_OF_COMMAND, command_set(elements))))

    def serve(self) -> None:
        """Answer Success to whatever comes, until the requestor releases."""
        with suppress(Gone):
            while True:
                self.answer(self.read_message())
        self.send(pdu(PduType.A_RELEASE_RP, bytes(4)))

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def reset(self) -> None:
        """Close by RST."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def wait_until_closed(self) -> None:
        with suppress(ConnectionError):
            while self.socket.recv(1 << 20):
                pass

    def _read(self, count: int) -> bytes:
        read = b""
        while len(read) < count:
            try:
                piece = self.socket.recv(count - len(read))
            except ConnectionError as error:
                raise Gone from error
            if not piece:
                raise Gone
            read += piece
        return read


Script = Callable[[Caller], None]


class Acceptor:
    """Listens on a port of its own and plays a script with each connection, one thread each.

    Leaving the `with` block closes what is open. What a script raises, pytest shows.

    Parameters
    ----------
    *scripts : callable
        For the first connection, the second and so on; the last one for all that follow.
    """

    def __init__(self, *scripts: Script) -> None:
        self._scripts = scripts
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.callers: list[Caller] = []
        self._threads = [threading.Thread(target=self._listen)]

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        for caller in self.callers:
            with suppress(OSError):
                caller.socket.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(TIMEOUT_S)
            assert not thread.is_alive()
        self._listener.close()

    def _listen(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            connection.settimeout(TIMEOUT_S)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            script = self._scripts[min(len(self.callers), len(self._scripts) - 1)]
            self.callers.append(Caller(connection))
            thread = threading.Thread(target=self._play, args=(script, self.callers[-1]))
            self._threads.append(thread)
            thread.start()

    def _play(self, script: Script, caller: Caller) -> None:
        with caller.socket:
            try:
                script(caller)
            except (Gone, ConnectionError):
                return
