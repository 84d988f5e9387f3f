"""How fast an engine is on a runtime, each in a process of its own: so what it starts with, and the
memory that it takes, are its own too."""

from __future__ import annotations

import re
import statistics
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

from dicom_node.errors import EngineError
from dicom_node.infer.engine_folders import load_manifest
from dicom_node.infer.loading import close, load_on
from dicom_node.infer.probes import probes_of
from dicom_node.infer.runtimes.choice import Wishes
from dicom_node.infer.runtimes.measuring import run_time_s
from dicom_node.infer.runtimes.registry import RUNTIMES


@dataclass(frozen=True)
class Benched:
    """What one runtime needs for the test vector of an engine, all of its networks together."""

    runtime: str
    description: str
    load_ms: float
    first_ms: float
    median_ms: float
    best_ms: float
    memory_bytes: int
    """Of the host: the peak above what the process had before it loaded anything."""


def bench(folder: Path, runtime: str, wishes: Wishes, threads: int, runs: int) -> Benched:
    """Return how fast an engine is on a runtime.

    Parameters
    ----------
    folder : Path
        Of the engine.
    runtime : str
    wishes : Wishes
    threads : int
    runs : int
        After the first.

    Raises
    ------
    EngineError
        If the networks cannot be loaded or run there, or the process dies.
    """
    with ProcessPoolExecutor(1, get_context("spawn")) as processes:
        running = processes.submit(_bench, folder, runtime, wishes, threads, runs)
        failure = running.exception()
        if failure is None:
            return running.result()
        if isinstance(failure, EngineError):
            raise failure
        raise EngineError(f"{runtime} ended its process: {failure}") from failure


def _bench(folder: Path, runtime: str, wishes: Wishes, threads: int, runs: int) -> Benched:
    manifest = load_manifest(folder)
    probes = probes_of(manifest)
    before_bytes = _memory_bytes("VmRSS")
    started = time.perf_counter()
    networks = load_on(RUNTIMES[runtime], manifest, wishes, threads)
    loaded = time.perf_counter()
    first_s = run_time_s(probes, networks, time.perf_counter)
    times_s = [run_time_s(probes, networks, time.perf_counter) for _ in range(runs)]
    description = networks.main[0].description
    peak_bytes = _memory_bytes("VmHWM")
    close(networks)
    return Benched(
        runtime=runtime,
        description=description,
        load_ms=(loaded - started) * 1000,
        first_ms=first_s * 1000,
        median_ms=statistics.median(times_s) * 1000,
        best_ms=min(times_s) * 1000,
        memory_bytes=peak_bytes - before_bytes,
    )


def _memory_bytes(key: str) -> int:
    status = Path("/proc/self/status").read_text("ascii")
    match = re.search(rf"^{key}:\s+([0-9]+) kB$", status, re.MULTILINE)
    return int(match[1]) * 1024 if match else 0
