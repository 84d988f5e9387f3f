"""Probes that store instances: by our own sender, and by DCMTK's storescu."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import quantiles

from tests.bench.association import CALLING, HOST
from tests.bench.loads import load
from tests.bench.measure import Meter, Usage, settle
from tests.bench.receivers import NotHere, Receiver
from tests.bench.sender import Sent, StoreJob
from tests.bench.workbench import Contestant, Measurement, Workbench
from tests.conftest import find_program

_STORESCU_TIMEOUT_S = 300.0
_RATES = {"mb_s": "MB/s", "instances_s": "inst/s"}
_USAGE = {
    "cpu_s_gb": "CPU s/GB",
    "cpu_ms_instance": "CPU ms/inst",
    "peak_mb": "peak MB",
    "growth_mb": "+MB",
    "receiving_peak_mb": "rx MB",
    "receiving_growth_mb": "rx +MB",
}
_BEHIND = {"behind_s": "behind s", "cpu_to_rest_s_gb": "to rest"}


@dataclass(frozen=True)
class Store:
    """So many instances of a load over so many associations.

    Parameters
    ----------
    by_instances : bool
        Compare instances a second rather than MB a second.
    each_pdu : bool
        The sender sends PDU by PDU.
    """

    load: str
    associations: int
    instances: int
    by_instances: bool = False
    each_pdu: bool = False

    @property
    def columns(self) -> Mapping[str, str]:
        rates = dict(reversed(_RATES.items())) if self.by_instances else _RATES
        latencies = {"p50_ms": "p50 ms", "p99_ms": "p99 ms"}
        return {**rates, **_USAGE, **latencies, **_BEHIND, "sender_cpu_s_gb": "sender CPU s/GB"}

    def measure(self, bench: Workbench, contestant: Contestant) -> Measurement:
        bench.sender.prepare(self.load)
        count = bench.instances(self.instances, contestant, self.associations)
        credentials = bench.credentials(contestant)
        measurement = Measurement()
        with bench.started(contestant) as receiver:
            job = StoreJob(
                receiver.port,
                receiver.called,
                self.load,
                count,
                self.associations,
                nodelay=contestant.nodelay,
                each_pdu=self.each_pdu,
                credentials=credentials,
            )
            with Meter(receiver.pid, receiver.receiving) as meter:
                sent = bench.sender.send(job)
                measurement.values["behind_s"] = receiver.wait_recorded(sent.instances)
            to_rest_s = _come_to_rest(receiver, meter, measurement)
        measurement.notes += sorted(set(sent.failures))
        _look_for_losses(receiver, count, sent.instances, measurement)
        if sent.instances:
            _rate(sent, meter.usage, to_rest_s, measurement)
        return measurement


@dataclass(frozen=True)
class Storescu:
    """CT files sent by DCMTK's storescu, one process an association."""

    associations: int

    @property
    def columns(self) -> Mapping[str, str]:
        return _RATES | _USAGE | _BEHIND

    def measure(self, bench: Workbench, contestant: Contestant) -> Measurement:
        program = find_program("storescu")
        if program is None:
            raise NotHere("storescu is not installed")
        each = max(1, round(len(bench.file_folders) * contestant.share / self.associations))
        folders = bench.file_folders[: each * self.associations]
        parts = [folders[i :: self.associations] for i in range(self.associations)]
        instances = sum(1 for folder in folders for _ in folder.iterdir())
        measurement = Measurement()
        with bench.started(contestant) as receiver:
            with Meter(receiver.pid, receiver.receiving) as meter:
                start = time.perf_counter()
                notes = _run_storescu(program, receiver, parts, contestant.nodelay)
                seconds = time.perf_counter() - start
                measurement.values["behind_s"] = receiver.wait_recorded(instances)
            to_rest_s = _come_to_rest(receiver, meter, measurement)
        measurement.notes += notes
        if not notes:
            size_bytes = instances * len(load("ct").data_set)
            sent = Sent(instances=instances, size_bytes=size_bytes, seconds=seconds)
            _look_for_losses(receiver, instances, instances, measurement)
            _rate(sent, meter.usage, to_rest_s, measurement)
        return measurement


def _run_storescu(
    program: Path, receiver: Receiver, parts: Sequence[Sequence[Path]], nodelay: bool
) -> list[str]:
    """Send the folders of each part in a process of its own; return what went wrong."""
    environment = {key: text for key, text in os.environ.items() if key != "TCP_NODELAY"}
    if nodelay:
        environment["TCP_NODELAY"] = "1"
    head = [str(program), "-aet", CALLING, "-aec", receiver.called, HOST, str(receiver.port), "+sd"]
    processes = [
        subprocess.Popen(
            [*head, *map(str, part)],
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for part in parts
    ]
    notes = set()
    for process in processes:
        try:
            _, errors = process.communicate(timeout=_STORESCU_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            _, errors = process.communicate()
            notes.add("storescu does not end")
        if process.returncode != 0:
            notes.add(f"storescu ends with {process.returncode}: {errors[-200:].strip()}")
    return sorted(notes)


def _come_to_rest(receiver: Receiver, meter: Meter, measurement: Measurement) -> float:
    """Wait until it does nothing more; return its CPU time since the load began."""
    settle(receiver.pid)
    if (ending := receiver.ending()) is not None:
        measurement.notes.append(ending)
    return meter.cpu_so_far_s()


def _look_for_losses(
    receiver: Receiver, wanted: int, answered: int, measurement: Measurement
) -> None:
    """Compare what it has, now that it has stopped, with what it said it had."""
    if answered < wanted:
        measurement.notes.append(f"{wanted - answered} of {wanted} instances were not answered")
    stored = receiver.stored()
    if stored is not None and stored < answered:
        measurement.notes.append(f"LOST {answered - stored} of {answered} acknowledged instances")
        measurement.values["lost"] = answered - stored


def _rate(sent: Sent, usage: Usage, to_rest_s: float, measurement: Measurement) -> None:
    gigabytes = sent.size_bytes / 1e9
    measurement.values |= {
        "mb_s": 1000 * gigabytes / sent.seconds,
        "instances_s": sent.instances / sent.seconds,
        "cpu_s_gb": usage.cpu_s / gigabytes,
        "cpu_to_rest_s_gb": to_rest_s / gigabytes,
        "cpu_ms_instance": 1000 * usage.cpu_s / sent.instances,
        "peak_mb": usage.peak_bytes / 1e6,
        "growth_mb": usage.growth_bytes / 1e6,
        "receiving_peak_mb": usage.receiving_peak_bytes / 1e6,
        "receiving_growth_mb": usage.receiving_growth_bytes / 1e6,
        "sender_cpu_s_gb": sent.cpu_s / gigabytes,
    }
    if len(sent.latencies_s) > 1:
        cuts = quantiles(sent.latencies_s, n=100, method="inclusive")
        measurement.values |= {"p50_ms": 1000 * cuts[49], "p99_ms": 1000 * cuts[98]}
