"""Probes of associations that carry no data: set up and released, echoed, idle."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from statistics import median, quantiles

from pydicom._uid_dict import UID_dictionary
from pynetdicom import AllStoragePresentationContexts

from tests.bench import measure
from tests.bench.association import Association, PeerFailed, echo_request, request_for
from tests.bench.loads import CT_SOP_CLASS, EXPLICIT
from tests.bench.receivers import Receiver
from tests.bench.workbench import Contestant, Measurement, Workbench

_STORAGE_CONTEXTS = 127


@dataclass(frozen=True)
class Associate:
    """Associations set up and released one after the other, 127 storage contexts in each.

    Parameters
    ----------
    transfer_syntaxes_max : int
        Of pydicom's dictionary, proposed in each context.
    """

    associations: int
    transfer_syntaxes_max: int

    @property
    def columns(self) -> Mapping[str, str]:
        return {
            "association_ms": "ms",
            "p99_ms": "p99 ms",
            "cpu_ms": "CPU ms",
        }

    def measure(self, bench: Workbench, contestant: Contestant) -> Measurement:
        count = bench.connections(self.associations, contestant)
        measurement = Measurement()
        with bench.started(contestant) as receiver, noting(measurement):
            request = request_for(receiver.called, _contexts(self.transfer_syntaxes_max))
            accepted = associate(receiver.port, request)
            if accepted < _STORAGE_CONTEXTS:
                measurement.notes.append(f"accepts {accepted} of {_STORAGE_CONTEXTS} contexts")
            with measure.Meter(receiver.pid, receiver.receiving) as meter:
                spent_s = [timed(lambda: associate(receiver.port, request)) for _ in range(count)]
                receiver.wait_recorded(0)
                measure.settle(receiver.pid)  # rows may be written behind the answers
            measurement.values = {
                "association_ms": 1000 * median(spent_s),
                "p99_ms": 1000 * quantiles(spent_s, n=100, method="inclusive")[98],
                "cpu_ms": 1000 * meter.usage.cpu_s / count,
            }
        return measurement


@dataclass(frozen=True)
class Echo:
    """C-ECHO after C-ECHO on one association."""

    echoes: int

    @property
    def columns(self) -> Mapping[str, str]:
        return {"echo_ms": "p50 ms", "p99_ms": "p99 ms"}

    def measure(self, bench: Workbench, contestant: Contestant) -> Measurement:
        measurement = Measurement()
        with bench.started(contestant) as receiver, noting(measurement):
            with Association(receiver.port, echo_request(receiver.called)) as association:
                association.echo()
                spent_s = [
                    timed(lambda i=i: association.echo(i + 1))  # type: ignore[misc]
                    for i in range(self.echoes)
                ]
            cuts = quantiles(spent_s, n=100, method="inclusive")
            measurement.values = {"echo_ms": 1000 * cuts[49], "p99_ms": 1000 * cuts[98]}
        return measurement


@dataclass(frozen=True)
class Idle:
    """Associations that are open and say nothing."""

    associations: int
    seconds: float

    @property
    def columns(self) -> Mapping[str, str]:
        return {
            "core_percent": "% of a core",
            "receiving_percent": "rx %",
            "rest_percent": "% at rest",
        }

    def measure(self, bench: Workbench, contestant: Contestant) -> Measurement:
        measurement = Measurement()
        with bench.started(contestant) as receiver, noting(measurement), ExitStack() as opened:
            at_rest = self._cpu_percent(receiver, receiver.processes())
            request = request_for(receiver.called, [(CT_SOP_CLASS, [EXPLICIT])])
            for _ in range(self.associations):
                opened.enter_context(Association(receiver.port, request))
            time.sleep(1)
            receiving, everything = receiver.receiving(), receiver.processes()
            before = measure.cpu_s(receiving)
            all_percent = self._cpu_percent(receiver, everything)
            receiving_s = measure.cpu_s(receiving) - before
            measurement.values = {
                "core_percent": all_percent,
                "receiving_percent": 100 * receiving_s / self.seconds,
                "rest_percent": at_rest,
            }
        return measurement

    def _cpu_percent(self, receiver: Receiver, pids: list[int]) -> float:
        before = measure.cpu_s(pids)
        time.sleep(self.seconds)
        return 100 * (measure.cpu_s(pids) - before) / self.seconds


@contextmanager
def noting(measurement: Measurement) -> Iterator[None]:
    try:
        yield
    except (OSError, PeerFailed) as error:
        measurement.notes.append(f"{type(error).__name__}: {error}")


def timed(action: Callable[[], object]) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def associate(port: int, request: bytes) -> int:
    """Set an association up and release it; return how many contexts were accepted."""
    with Association(port, request) as association:
        return len(association.contexts)


def _contexts(transfer_syntaxes_max: int) -> list[tuple[str, list[str]]]:
    syntaxes = [uid for uid, entry in UID_dictionary.items() if entry[1] == "Transfer Syntax"]
    storage = AllStoragePresentationContexts[:_STORAGE_CONTEXTS]
    return [(str(c.abstract_syntax), syntaxes[:transfer_syntaxes_max]) for c in storage]
