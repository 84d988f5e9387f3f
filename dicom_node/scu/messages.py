"""DIMSE messages put together from their fragments (PS3.7 6.3, PS3.8 E)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from dicom_node.errors import ProtocolBroken
from dicom_node.protocol.command import Command
from dicom_node.protocol.pdu import COMMAND, LAST, PDV_HEADER

_COMMAND_BYTES_MAX = 1 << 16


@dataclass(frozen=True)
class Message:
    """One DIMSE message of the peer."""

    context_id: int
    encoded_command: bytes
    command: Command
    data_set: bytes | None


class Assembly:
    """What came of the message that is under way."""

    def __init__(self) -> None:
        self._command = bytearray()
        self._parsed: Command | None = None
        self._data_set = bytearray()

    def take(self, body: bytes) -> Iterator[Message]:
        """Take the body of a P-DATA-TF; yield what is whole with it.

        Raises
        ------
        ProtocolBroken
            If it has no presentation data values, or they belong to nothing.
        """
        at = 0
        while at < len(body):
            if at + PDV_HEADER.size > len(body):
                raise ProtocolBroken("a PDU has bytes behind its last presentation data value")
            length, context_id, control = PDV_HEADER.unpack_from(body, at)
            end = at + 4 + length
            if length < 2 or end > len(body):
                raise ProtocolBroken("a presentation data value does not fit its PDU")
            yield from self._take_fragment(context_id, control, memoryview(body)[at + 6 : end])
            at = end

    def _take_fragment(
        self, context_id: int, control: int, fragment: memoryview
    ) -> Iterator[Message]:
        if control & COMMAND:
            if self._parsed is not None:
                raise ProtocolBroken("a command inside of a data set")
            self._command += fragment
            if len(self._command) > _COMMAND_BYTES_MAX:
                raise ProtocolBroken("a command set that does not end")
            if control & LAST:
                self._parsed = Command.parse(self._command)
                if not self._parsed.has_data_set:
                    yield self._whole(context_id, self._parsed, None)
            return
        if self._parsed is None:
            raise ProtocolBroken("a data set without a command")
        self._data_set += fragment
        if control & LAST:
            yield self._whole(context_id, self._parsed, bytes(self._data_set))

    def _whole(self, context_id: int, command: Command, data_set: bytes | None) -> Message:
        message = Message(context_id, bytes(self._command), command, data_set)
        self._command, self._data_set, self._parsed = bytearray(), bytearray(), None
        return message
