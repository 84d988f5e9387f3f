"""The sender: PDUs built ahead, one thread an association, one system call an instance.

A process of its own, so that its work is not the receiver's nor the benchmark's. Of each instance
only the message ID and three UIDs are written, over those of the last one; all associations share
the rest of the bytes. Its cost is reported with every run: it must stay far below the receivers'.
"""

from __future__ import annotations

import gc
import multiprocessing
import struct
import threading
import time
from dataclasses import dataclass, field
from functools import lru_cache
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Self

from dicom_node.harness.pdu import PdvHeader, c_store_rq, fragments, p_data, pdv
from tests.bench.association import (
    Association,
    Credentials,
    PeerFailed,
    Response,
    request_for,
)
from tests.bench.loads import Load, load, series_uid, sop_uid, study_uid

_CONTEXT_ID = 1
_PDV_OVERHEAD_BYTES = 6
_RUN_TIMEOUT_S = 600.0
_LAST_OF_COMMAND = PdvHeader.COMMAND | PdvHeader.LAST


@dataclass(frozen=True)
class StoreJob:
    """What to send to whom."""

    port: int
    called: str
    load: str
    instances: int
    """In all, spread evenly over the associations."""
    associations: int = 1
    first_instance: int = 0
    nodelay: bool = True
    each_pdu: bool = False
    """Send every PDU by a call of its own, as most senders do."""
    credentials: Credentials | None = None


@dataclass
class Sent:
    """What became of it."""

    instances: int = 0
    """Answered with success."""
    size_bytes: int = 0
    """Of their data sets."""
    seconds: float = 0.0
    """From the first request to the last response; the associations are open before."""
    whole_s: float = 0.0
    """With opening and releasing the associations."""
    cpu_s: float = 0.0
    latencies_s: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)


class Instance:
    """One template as PDUs in one association, to be renumbered for each instance."""

    def __init__(self, template: Load, association: int, pdu_bytes_max: int) -> None:
        self._association = association
        command, data = _prebuilt(template.name, pdu_bytes_max)
        first_bytes = min(len(data), pdu_bytes_max + 6)
        self._first = bytearray(command + data[:first_bytes])
        view = memoryview(self._first)
        rest = memoryview(data)[first_bytes:]
        self.whole = [view, rest] if rest else [view]
        """Everything, in as few pieces as can be."""
        step = pdu_bytes_max + 6
        self.pdus = [view[: len(command)], view[len(command) :]]
        self.pdus += [rest[i : i + step] for i in range(0, len(rest), step)]
        """The same, PDU by PDU."""
        self._message_id = self._first.index(struct.pack("<HHL", 0, 0x0110, 2)) + 8
        template_uid = sop_uid(0, 0).encode()
        in_command = self._first.index(template_uid)
        self._uids = (in_command, self._first.index(template_uid, len(command)))
        for old, new in ((study_uid(0), study_uid(association)),
                         (series_uid(0), series_uid(association))):  # fmt: skip
            self._write(self._first.index(old.encode()), new)

    def number(self, instance: int, message_id: int) -> None:
        """Give it its SOP Instance UID, in command and data set, and its message ID."""
        struct.pack_into("<H", self._first, self._message_id, message_id)
        for at in self._uids:
            self._write(at, sop_uid(self._association, instance))

    def _write(self, at: int, uid: str) -> None:
        encoded = uid.encode()
        self._first[at : at + len(encoded)] = encoded


@lru_cache(maxsize=4)
def _prebuilt(name: str, pdu_bytes_max: int) -> tuple[bytes, bytes]:
    """Return a load's C-STORE-RQ and its data set as P-DATA-TF PDUs, one PDV each."""
    template = load(name)
    command = c_store_rq(template.sop_class_uid, sop_uid(0, 0))
    pieces = fragments(_CONTEXT_ID, template.data_set, pdu_bytes_max - _PDV_OVERHEAD_BYTES)
    data = b"".join(p_data(piece) for piece in pieces)
    return p_data(pdv(_CONTEXT_ID, _LAST_OF_COMMAND, command)), data


def send(job: StoreJob) -> Sent:
    """Open the associations, send, release them."""
    template = load(job.load)
    request = request_for(job.called, [(template.sop_class_uid, [template.transfer_syntax_uid])])
    sent = Sent()
    start = time.perf_counter()
    opened: list[Association] = []
    instances: list[Instance] = []
    try:
        for i in range(job.associations):
            association = Association(
                job.port, request, nodelay=job.nodelay, credentials=job.credentials
            )
            opened.append(association)
            if not association.contexts:
                raise PeerFailed("refuses the presentation context")
            instances.append(Instance(template, i, association.pdu_bytes_max))
        _send_all(job, opened, instances, sent)
        for association in opened:
            association.release()
    except (OSError, PeerFailed) as error:
        sent.failures.append(_in_words(error))
    for association in opened:
        association.close()
    sent.whole_s = time.perf_counter() - start
    sent.instances = len(sent.latencies_s)
    sent.size_bytes = sent.instances * len(template.data_set)
    return sent


def _send_all(
    job: StoreJob, opened: list[Association], instances: list[Instance], sent: Sent
) -> None:
    each = job.instances // job.associations
    threads = [
        threading.Thread(target=_send_some, args=(job, *pair, each, sent))
        for pair in zip(opened, instances, strict=True)
    ]
    gc.disable()
    cpu_s, start = time.process_time(), time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    sent.seconds = time.perf_counter() - start
    sent.cpu_s = time.process_time() - cpu_s
    gc.enable()


def _send_some(
    job: StoreJob, association: Association, instance: Instance, count: int, sent: Sent
) -> None:
    latencies_s = []
    try:
        for i in range(count):
            message_id = i % 65535 + 1
            instance.number(job.first_instance + i, message_id)
            start = time.perf_counter()
            if job.each_pdu:
                association.send_each(instance.pdus)
            else:
                association.send(instance.whole)
            response = association.response()
            latencies_s.append(time.perf_counter() - start)
            if response != Response(message_id, 0):
                latencies_s.pop()
                raise PeerFailed(f"answers C-STORE {message_id} with {response}")
    except (OSError, PeerFailed) as error:
        sent.failures.append(_in_words(error))
    sent.latencies_s.extend(latencies_s)


def _in_words(error: Exception) -> str:
    return str(error) if isinstance(error, PeerFailed) else f"{type(error).__name__}: {error}"


# ------------------------------------------------------------ the process


class Sender:
    """The sending process; keeps its loads from one job to the next."""

    def __init__(self) -> None:
        spawn = multiprocessing.get_context("spawn")
        self._pipe, theirs = spawn.Pipe()
        self._process = spawn.Process(target=_serve, args=(theirs,), name="sender", daemon=True)
        self._process.start()
        theirs.close()

    def prepare(self, name: str) -> None:
        """Make a load now rather than while a receiver waits."""
        self._ask(name)

    def send(self, job: StoreJob) -> Sent:
        answer = self._ask(job)
        assert isinstance(answer, Sent)
        return answer

    def _ask(self, message: StoreJob | str) -> object:
        self._pipe.send(message)
        if not self._pipe.poll(_RUN_TIMEOUT_S):
            raise TimeoutError(f"the sender does not end within {_RUN_TIMEOUT_S:g} s")
        answer: object = self._pipe.recv()
        return answer

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.kill()
        self._process.join()
        self._pipe.close()


def _serve(pipe: Connection) -> None:
    while True:
        try:
            message: StoreJob | str = pipe.recv()
        except EOFError:
            return
        if isinstance(message, str):
            load(message)
            pipe.send(None)
        else:
            pipe.send(send(message))
