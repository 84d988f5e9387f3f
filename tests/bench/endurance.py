"""Probes of what connections leave behind: silent ones, and thousands that come and go."""

from __future__ import annotations

import socket
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from statistics import median
from typing import NamedTuple

from dicom_node.harness.pdu import VERIFICATION
from tests.bench import measure
from tests.bench.association import PeerFailed, connect, request_for
from tests.bench.connections import associate, noting, timed
from tests.bench.loads import CT_SOP_CLASS, EXPLICIT
from tests.bench.receivers import Receiver
from tests.bench.sender import StoreJob
from tests.bench.workbench import Contestant, Measurement, Workbench

_STORES = 20
_WARM_UP = 200


class _Level(NamedTuple):
    """What a receiver holds at a moment."""

    all_bytes: int
    receiving_bytes: int
    threads: int

    @classmethod
    def of(cls, receiver: Receiver) -> _Level:
        pids = receiver.processes()
        return cls(
            measure.memory_bytes(pids),
            measure.memory_bytes(receiver.receiving()),
            measure.threads(pids),
        )


@dataclass(frozen=True)
class Silent:
    """Connections that never say a word, and a store meanwhile."""

    connections: int

    @property
    def columns(self) -> Mapping[str, str]:
        return {
            "growth_mb": "+MB",
            "receiving_growth_mb": "rx +MB",
            "threads_more": "+threads",
            "usual_ms": "usual ms",
            "meanwhile_ms": "meanwhile ms",
            "slower": "slower",
        }

    def measure(self, bench: Workbench, contestant: Contestant) -> Measurement:
        bench.sender.prepare("ct")
        measurement = Measurement()
        with bench.started(contestant) as receiver, noting(measurement), ExitStack() as opened:
            _store_ms(bench, receiver, 0)
            usual_ms = _store_ms(bench, receiver, 1)
            measure.settle(receiver.pid)
            before = _Level.of(receiver)
            silent = [opened.enter_context(connect(receiver.port)) for _ in range(self.connections)]
            time.sleep(1)
            meanwhile_ms = _store_ms(bench, receiver, 2)
            held = sum(map(_is_open, silent))
            after = _Level.of(receiver)
            if held < self.connections:
                measurement.notes.append(f"{held} of {self.connections} connections were held")
            measurement.values = {
                "growth_mb": (after.all_bytes - before.all_bytes) / 1e6,
                "receiving_growth_mb": (after.receiving_bytes - before.receiving_bytes) / 1e6,
                "threads_more": after.threads - before.threads,
                "usual_ms": usual_ms,
                "meanwhile_ms": meanwhile_ms,
                "slower": meanwhile_ms / usual_ms,
            }
        return measurement


@dataclass(frozen=True)
class Leak:
    """What is left of many associations and many bare connections, after a first few of each."""

    connections: int

    @property
    def columns(self) -> Mapping[str, str]:
        return {
            "growth_mb": "+MB",
            "receiving_growth_mb": "rx +MB",
            "threads_more": "+threads",
            "connections_s": "1/s",
        }

    def measure(self, bench: Workbench, contestant: Contestant) -> Measurement:
        count = bench.connections(self.connections, contestant)
        measurement = Measurement()
        with bench.started(contestant) as receiver, noting(measurement):
            _come_and_go(receiver, _WARM_UP)
            measure.settle(receiver.pid)
            before = _Level.of(receiver)
            seconds = timed(lambda: _come_and_go(receiver, count))
            measure.settle(receiver.pid)
            after = _Level.of(receiver)
            measurement.values = {
                "growth_mb": (after.all_bytes - before.all_bytes) / 1e6,
                "receiving_growth_mb": (after.receiving_bytes - before.receiving_bytes) / 1e6,
                "threads_more": after.threads - before.threads,
                "connections_s": 2 * count / seconds,
            }
        return measurement


def _store_ms(bench: Workbench, receiver: Receiver, turn: int) -> float:
    """Return what one CT costs, with an association of its own."""
    spent_s = []
    for i in range(_STORES):
        number = turn * _STORES + i
        sent = bench.sender.send(
            StoreJob(receiver.port, receiver.called, "ct", 1, first_instance=number)
        )
        if sent.failures:
            raise PeerFailed(sent.failures[0])
        spent_s.append(sent.whole_s)
    return 1000 * median(spent_s)


def _come_and_go(receiver: Receiver, count: int) -> None:
    contexts = [(VERIFICATION, [EXPLICIT]), (CT_SOP_CLASS, [EXPLICIT])]
    request = request_for(receiver.called, contexts)
    for _ in range(count):
        associate(receiver.port, request)
        connect(receiver.port).close()


def _is_open(connection: socket.socket) -> bool:
    try:
        return connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) != b""
    except BlockingIOError:
        return True
    except OSError:
        return False
