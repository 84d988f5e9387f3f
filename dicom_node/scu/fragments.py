"""A message cut into P-DATA-TF PDUs: heads are made, bytes stay where they lie (PS3.8 9.3.5)."""

from __future__ import annotations

from dicom_node.protocol.pdu import LAST, P_DATA_HEADER, PduType

Buffer = bytes | memoryview


class Fragments:
    """Cuts a command set or a data set into PDUs of one PDV each.

    Parameters
    ----------
    kind : int
        COMMAND, or 0 for a data set.
    room : int
        For how many bytes of a message the peer takes a PDU.
    size_bytes : int
        Of the message.
    """

    def __init__(self, context_id: int, kind: int, room: int, size_bytes: int) -> None:
        self._context_id = context_id
        self._kind = kind
        self._room = room
        self._unannounced = size_bytes
        self._in_pdv = 0
        self._is_empty = not size_bytes

    def of(self, view: memoryview) -> list[Buffer]:
        """Return heads and parts of the next bytes of the message."""
        buffers: list[Buffer] = []
        at = 0
        while at < len(view) or self._is_empty:
            if not self._in_pdv:
                buffers.append(self._head())
            taken = min(self._in_pdv, len(view) - at)
            buffers.append(view[at : at + taken])
            self._in_pdv -= taken
            at += taken
        return buffers

    def _head(self) -> bytes:
        size = self._in_pdv = min(self._room, self._unannounced)
        self._unannounced -= size
        self._is_empty = False
        control = self._kind if self._unannounced else self._kind | LAST
        return P_DATA_HEADER.pack(PduType.DATA_TF, size + 6, size + 2, self._context_id, control)
