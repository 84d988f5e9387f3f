"""Sending by C-STORE: bytes as they lie in the store, over one association or several."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from dicom_node.deliver.line import Context, Line, Outcome, proposals
from dicom_node.deliver.lines import Lines
from dicom_node.deliver.originals import Original
from dicom_node.errors import PeerUnreachable, ResultLost, StorageError
from dicom_node.model import Result
from dicom_node.scu.address import Address
from dicom_node.scu.content import Content
from dicom_node.scu.part10 import Part10File
from dicom_node.store.local import LocalStore

SUCCESS = 0x0000


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

    @classmethod
    def of(cls, result: Result, store: LocalStore) -> Self:
        """Return a result of the store."""
        return cls(store.path(result.path), result.sop_class_uid, result.transfer_syntax_uid)

    @property
    def context(self) -> Context:
        return self.sop_class_uid, self.transfer_syntax_uid

    def original(self) -> Original:
        """Return what goes out; ResultLost if the file is gone or is another than we wrote."""
        try:
            file = Part10File.read(self.path)
            part = file.data_set_part()
        except OSError as error:
            raise self._lost(str(error.strerror)) from error
        except StorageError as error:
            raise self._lost(error.message) from error
        if file.context != self.context:
            raise self._lost("its head is broken")
        return Original(
            self.sop_class_uid, file.sop_instance_uid, self.transfer_syntax_uid, Content.of(part)
        )

    def _lost(self, why: str) -> ResultLost:
        return ResultLost(
            f"our file {self.path.name} cannot be read: {why}",
            hint="restore it from a backup of data_dir, then retry the delivery",
        )


def send(items: Sequence[Item], address: Address) -> Iterator[Outcome]:
    """Send files; yield each one's outcome as soon as it and those before it are known.

    `address.associations` says over how many associations at a time.

    Yields
    ------
    PeerRefused, ResultLost, PeerUnreachable or str
        For each file in order: why the destination did not get it, or in words that it did.
        PeerUnreachable where its association broke while others went on.

    Raises
    ------
    PeerUnreachable
        If there is no association, or none is left; of the files whose outcome was not yielded,
        nothing is known of those that were under way, and the rest was not sent.
    """
    return _send([item.context for item in items], lambda number: items[number].original(), address)


def send_originals(originals: Sequence[Original], address: Address) -> Iterator[Outcome]:
    """Send instances that are ready; as `send`."""
    return _send([original.context for original in originals], originals.__getitem__, address)


def _send(
    contexts: Sequence[Context], ready: Callable[[int], Original], address: Address
) -> Iterator[Outcome]:
    proposed = proposals(contexts)

    def store(line: Line, number: int) -> Outcome:
        line.open(proposed[number])
        try:
            original = ready(number)
        except ResultLost as lost:
            return lost
        return line.store(original)

    count = len(contexts)
    if address.associations > 1 and count > 1:
        with Lines(address, proposed[0], min(address.associations, count)) as lines:
            yield from lines.outcomes(store, count)
        return
    with Line(address) as line:
        ahead = _Ahead(ready, count, line)
        for number in range(count):
            line.open(proposed[number])
            original = ahead.take(number)
            if isinstance(original, ResultLost):
                yield original
            else:
                yield line.store(original, ahead.prepare)


class _Ahead:
    """Has the next instance at hand while the destination is busy with the one before."""

    def __init__(self, ready: Callable[[int], Original], count: int, line: Line) -> None:
        self._ready = ready
        self._count = count
        self._line = line
        self._number = 0
        self._next: Original | ResultLost | None = None

    def take(self, number: int) -> Original | ResultLost:
        """Return an instance, or why there is none; the next one to prepare is that after it."""
        taken, self._next, self._number = self._next, None, number + 1
        return self._read(number) if taken is None else taken

    def prepare(self) -> None:
        if self._number < self._count:
            original = self._read(self._number)
            self._next = (
                original if isinstance(original, ResultLost) else self._line.at_hand(original)
            )

    def _read(self, number: int) -> Original | ResultLost:
        try:
            return self._ready(number)
        except ResultLost as lost:
            return lost
