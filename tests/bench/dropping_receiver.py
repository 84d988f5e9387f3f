"""D, the reference: reads, looks for the end of each data set, answers success, keeps nothing.

It shows what the benchmark's sender could do at most. As a program:
`python -m tests.bench.dropping_receiver PORT`.
"""

from __future__ import annotations

import socket
import struct
import sys
import threading

from dicom_node.harness.answers import parse_command_set
from dicom_node.harness.pdu import (
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

_BUFFER_BYTES = 1 << 20
_LAST_OF_COMMAND = PdvHeader.COMMAND | PdvHeader.LAST


class Dropper:
    """One connection: a PDU's header and PDV header are looked at, data are skipped."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._buffer = memoryview(bytearray(_BUFFER_BYTES))
        self._at = self._end = 0
        self._request: dict[int, bytes] = {}

    def run(self) -> None:
        with self._connection:
            while True:
                kind, length = struct.unpack(">BxL", self._take(6))
                if kind == PduType.A_ASSOCIATE_RQ:
                    self._connection.sendall(accept(self._take(length)))
                elif kind == PduType.P_DATA_TF:
                    self._data(length)
                elif kind == PduType.A_RELEASE_RQ:
                    self._connection.sendall(pdu(PduType.A_RELEASE_RP, bytes(4)))
                    return
                else:
                    return

    def _data(self, length: int) -> None:
        """Take a P-DATA-TF of one PDV, which is what the sender sends."""
        _, context_id, header = struct.unpack(">LBB", self._take(6))
        if header & PdvHeader.COMMAND:
            self._request = parse_command_set(self._take(length - 6))
            if self._request[0x0800] == us(NO_DATA_SET):
                self._answer(context_id)
            return
        left = length - 6
        while left:
            if self._at == self._end:
                self._fill()
            skipped = min(left, self._end - self._at)
            self._at += skipped
            left -= skipped
        if header & PdvHeader.LAST:
            self._answer(context_id)

    def _answer(self, context_id: int) -> None:
        command = struct.unpack("<H", self._request[0x0100])[0] | 0x8000
        response = command_set(
            [
                (0x0002, self._request[0x0002]),
                (0x0100, us(command)),
                (0x0120, self._request[0x0110]),
                (0x0800, us(NO_DATA_SET)),
                (0x0900, us(0x0000)),
            ]
        )
        self._connection.sendall(p_data(pdv(context_id, _LAST_OF_COMMAND, response)))

    def _fill(self) -> None:
        self._at, self._end = 0, self._connection.recv_into(self._buffer)
        if self._end == 0:
            raise ConnectionResetError

    def _take(self, count: int) -> bytes:
        taken = b""
        while len(taken) < count:
            if self._at == self._end:
                self._fill()
            piece = self._buffer[self._at : min(self._end, self._at + count - len(taken))]
            self._at += len(piece)
            taken += piece
        return taken


def accept(request: bytes) -> bytes:
    """Return an A-ASSOCIATE-AC that accepts each context in its first transfer syntax."""
    answer = request[:68]
    at = 68
    while at < len(request):
        kind, length = struct.unpack_from(">BxH", request, at)
        value = request[at + 4 : at + 4 + length]
        if kind == 0x10:
            answer += item(kind, value)
        elif kind == 0x20:
            abstract_bytes = struct.unpack_from(">xxH", value, 4)[0]
            first = 8 + abstract_bytes
            syntax_bytes = struct.unpack_from(">xxH", value, first)[0]
            answer += item(0x21, value[:1] + bytes(3) + value[first : first + 4 + syntax_bytes])
        at += 4 + length
    answer += item(0x50, maximum_length(131072))
    return pdu(PduType.A_ASSOCIATE_AC, answer)


def _run(connection: socket.socket) -> None:
    try:
        Dropper(connection).run()
    except ConnectionResetError:
        return


def main() -> None:
    with socket.create_server(("127.0.0.1", int(sys.argv[1])), backlog=100) as listener:
        while True:
            connection, _ = listener.accept()
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=_run, args=(connection,), daemon=True).start()


if __name__ == "__main__":
    main()
