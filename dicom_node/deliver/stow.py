"""Sending by STOW-RS (PS3.18 10.5): files as they lie in the store, streamed, several a request.

The answer names every instance that was stored and every one that was not, with the reason that a
C-STORE response would have had. Where a request fails as a whole and no instance is named, each is
sent by itself: one that a server chokes on holds up no other.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dicom_node.deliver.originals import Original
from dicom_node.deliver.store_scu import SUCCESS, Item
from dicom_node.errors import PeerRefused, ResultLost, StorageError
from dicom_node.scu.part10 import Part10File
from dicom_node.scu.web import (
    OUT_OF_RESOURCES,
    PROCESSING_FAILURE,
    Answer,
    WebAddress,
    exchange,
    require,
)
from dicom_node.store.file_meta import file_meta_of

Outcome = PeerRefused | ResultLost | str

_TOGETHER = 64
_TOGETHER_BYTES = 64_000_000
_PIECE_BYTES = 1 << 20
_TRANSIENT = frozenset({PROCESSING_FAILURE, 0x0213})
_SUCCEEDED, _FAILED = "00081199", "00081198"
_UID, _REASON, _WARNING = "00081155", "00081197", "00081196"


@dataclass(frozen=True)
class Part:
    """One Part 10 file of a request."""

    name: str
    sop_instance_uid: str
    size_bytes: int
    pieces: Callable[[], Iterator[bytes | memoryview]]
    """Opens it; of `size_bytes` in all."""


def send(items: Sequence[Item], address: WebAddress) -> Iterator[Outcome]:
    """Send files; yield each one's outcome in order, request by request.

    Yields
    ------
    PeerRefused, ResultLost or str
        For each file: why the destination did not get it, or in words that it did.

    Raises
    ------
    PeerUnreachable
        If the server cannot be reached, does not let us in, or breaks off; the rest was not sent,
        and what was under way may or may not have arrived.
    """
    return _outcomes([_part_of(item) for item in items], address)


def send_originals(originals: Sequence[Original], address: WebAddress) -> Iterator[Outcome]:
    """Send data sets, each with a File Meta of ours; as `send`."""
    return _outcomes([_part_of_original(one) for one in originals], address)


def _outcomes(parts: Sequence[Part | ResultLost], address: WebAddress) -> Iterator[Outcome]:
    for batch in _batches(parts):
        sound = [part for part in batch if isinstance(part, Part)]
        said = iter(_store(sound, address) if sound else ())
        for part in batch:
            yield part if isinstance(part, ResultLost) else next(said)


def _batches(parts: Sequence[Part | ResultLost]) -> Iterator[list[Part | ResultLost]]:
    batch: list[Part | ResultLost] = []
    size = 0
    for part in parts:
        part_bytes = 0 if isinstance(part, ResultLost) else part.size_bytes
        if batch and (len(batch) == _TOGETHER or size + part_bytes > _TOGETHER_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(part)
        size += part_bytes
    if batch:
        yield batch


def _store(parts: Sequence[Part], address: WebAddress) -> list[Outcome]:
    """Return the outcomes of one request, or of one each where the server took none of it."""
    try:
        return _stored_together(parts, address)
    except (PeerRefused, ResultLost) as error:
        if len(parts) == 1:
            return [error]
    return [outcome for part in parts for outcome in _store([part], address)]


def _stored_together(parts: Sequence[Part], address: WebAddress) -> list[Outcome]:
    boundary = secrets.token_hex(16)
    head = f"--{boundary}\r\nContent-Type: application/dicom\r\n\r\n".encode()
    end = f"--{boundary}--\r\n".encode()

    def body() -> Iterator[bytes | memoryview]:
        for part in parts:
            yield head
            yield from part.pieces()
            yield b"\r\n"
        yield end

    answer = exchange(
        address,
        "POST",
        "studies",
        content_type=f'multipart/related; type="application/dicom"; boundary={boundary}',
        body=body(),
        body_bytes=sum(len(head) + part.size_bytes + 2 for part in parts) + len(end),
    )
    stored, failed = _said(answer)
    if not failed:
        require(address, answer, "STOW-RS", 200, 202)
    return [_outcome(part, stored, failed, answer, address) for part in parts]


def _said(answer: Answer) -> tuple[dict[str, int], dict[str, int]]:
    """Return the warnings (0 for none) of what was stored, and the reasons of what was not."""
    stored: dict[str, int] = {}
    failed: dict[str, int] = {}
    for data_set in answer.json():
        stored |= _statuses(data_set, _SUCCEEDED, _WARNING, missing=SUCCESS)
        failed |= _statuses(data_set, _FAILED, _REASON, missing=PROCESSING_FAILURE)
    return stored, failed


def _statuses(
    data_set: Mapping[str, Any], sequence: str, keyword: str, *, missing: int
) -> dict[str, int]:
    statuses = {}
    for item in _values(data_set, sequence):
        uid = _values(item, _UID)
        status = _values(item, keyword)
        if uid:
            known = status and isinstance(status[0], int)
            statuses[str(uid[0])] = status[0] if known else missing
    return statuses


def _values(data_set: Any, tag: str) -> list[Any]:
    element = data_set.get(tag) if isinstance(data_set, dict) else None
    values = element.get("Value") if isinstance(element, dict) else None
    return values if isinstance(values, list) else []


def _outcome(
    part: Part,
    stored: Mapping[str, int],
    failed: Mapping[str, int],
    answer: Answer,
    address: WebAddress,
) -> Outcome:
    uid = part.sop_instance_uid
    if uid in failed:
        status = failed[uid]
        return PeerRefused(
            f"{address.name} answered 0x{status:04X}",
            status=status,
            retryable=status & 0xFF00 == OUT_OF_RESOURCES or status in _TRANSIENT,
            hint="look into the destination's log",
        )
    if stored.get(uid, SUCCESS) != SUCCESS:
        return f"stored with warning 0x{stored[uid]:04X}"
    if uid in stored:
        return "stored"
    if answer.status == 200 and not (stored or failed):
        return "stored, says HTTP 200; the answer names no instance"
    return PeerRefused(
        f"{address.name} answered HTTP {answer.status} and does not name it",
        status=PROCESSING_FAILURE,
        retryable=True,
        hint="look into the destination's log",
    )


def _part_of(item: Item) -> Part | ResultLost:
    try:
        file = Part10File.read(item.path)
        size_bytes = item.path.stat().st_size
    except OSError as error:
        return _lost(item.path.name, str(error.strerror))
    except StorageError as error:
        return _lost(item.path.name, error.message)
    if file.context != (item.sop_class_uid, item.transfer_syntax_uid):
        return _lost(item.path.name, "its head is broken")

    def pieces() -> Iterator[bytes]:
        left = size_bytes
        try:
            with item.path.open("rb") as opened:
                while left and (piece := opened.read(min(left, _PIECE_BYTES))):
                    left -= len(piece)
                    yield piece
        except OSError as error:
            raise _lost(item.path.name, str(error.strerror)) from error
        if left:
            raise _lost(item.path.name, "it became shorter")

    return Part(item.path.name, file.sop_instance_uid, size_bytes, pieces)


def _part_of_original(original: Original) -> Part:
    meta = file_meta_of(*original.context[:1], original.sop_instance_uid, original.context[1], "")
    uid, content = original.sop_instance_uid, original.content

    def pieces() -> Iterator[bytes | memoryview]:
        yield meta
        try:
            with content.opened(mapped=False) as views:
                yield from views
        except StorageError as error:
            raise ResultLost(error.message, hint=error.hint) from error

    return Part(uid, uid, len(meta) + content.size_bytes, pieces)


def _lost(name: str, why: str) -> ResultLost:
    return ResultLost(
        f"our file {name} cannot be read: {why}",
        hint="restore it from a backup of data_dir, then retry the delivery",
    )
