"""How fast each runtime of this machine is with an engine, measured once and kept."""

from __future__ import annotations

import hashlib
import json
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from dicom_node.errors import EngineError
from dicom_node.infer.asking import Networks
from dicom_node.infer.loading import close, load_on
from dicom_node.infer.manifest import Manifest
from dicom_node.infer.notes import Note, Notes
from dicom_node.infer.probes import Probe, all_of, probes_of, require_parity
from dicom_node.infer.runtimes.choice import Speed, Speeds, Wishes
from dicom_node.infer.runtimes.port import RuntimeKind
from dicom_node.infer.runtimes.registry import version

_ROUNDS = (3, 30)
"""At least and at most; more of those that take little, since a loaded machine adds to most."""
_ENOUGH_S = 1.0
_TOO_LONG_S = 10.0

Seconds = Callable[[], float]


class Measuring:
    """The speeds of runtimes with one engine.

    Parameters
    ----------
    manifest : Manifest
    wishes : Wishes
        With a folder to keep them in.
    threads : int
    runtimes : mapping
        Those to compare, by name.
    cache_dir : Path
    seconds : callable, optional
        A clock.
    """

    def __init__(
        self,
        manifest: Manifest,
        wishes: Wishes,
        threads: int,
        runtimes: Mapping[str, RuntimeKind],
        cache_dir: Path,
        seconds: Seconds = time.perf_counter,
    ) -> None:
        self._manifest = manifest
        self._wishes = wishes
        self._threads = threads
        self._runtimes = runtimes
        self._notes = Notes(cache_dir / "speeds")
        self._seconds = seconds
        self._depends_on: Note = {
            "engine": manifest.name,
            "version": manifest.version,
            "model_digest": manifest.model_digest,
            "precisions": sorted(manifest.model.precisions),
            "runtimes": {name: version(name) for name in runtimes},
            "threads": threads,
            "processor": processor(),
        }
        digest = hashlib.sha256(json.dumps(self._depends_on, sort_keys=True).encode()).hexdigest()
        self._name = f"{manifest.name}-{digest[:16]}"

    def known(self) -> Speeds | None:
        """Return what was measured on such a machine before."""
        note = self._notes.read(self._name)
        if note is None or note.get("depends_on") != self._depends_on:
            return None
        try:
            measured = {name: Speed(**speed) for name, speed in note["measured"].items()}
            return Speeds(measured, dict(note["refused"]))
        except (KeyError, TypeError, AttributeError, ValueError):
            return None

    def measured(self) -> Speeds:
        """Return what is known, or measure it and keep it; one process does at a time.

        Raises
        ------
        OSError
            If it cannot be kept.
        """
        with self._notes.alone(self._name):
            if (known := self.known()) is not None:
                return known
            speeds = self._measure()
            self._notes.write(self._name, {"depends_on": self._depends_on, **asdict(speeds)})
            return speeds

    def _measure(self) -> Speeds:
        """Run them in turn, so that what else the machine does befalls all alike."""
        probes = probes_of(self._manifest)
        loaded: dict[str, Networks] = {}
        differences: dict[str, float] = {}
        refused: dict[str, str] = {}
        times_s: dict[str, list[float]] = {}
        try:
            for name, kind in self._runtimes.items():
                try:
                    loaded[name] = load_on(kind, self._manifest, self._wishes, self._threads)
                    differences[name] = require_parity(self._manifest, probes, loaded[name])
                    times_s[name] = []
                except EngineError as error:
                    refused[name] = error.message
            while _goes_on(times_s):
                for name, times in times_s.items():
                    times.append(run_time_s(probes, loaded[name], self._seconds))
        finally:
            for networks in loaded.values():
                close(networks)
        measured = {
            name: Speed(round(min(times) * 1000, 3), differences[name])
            for name, times in times_s.items()
        }
        return Speeds(measured, refused)


def _goes_on(times_s: Mapping[str, Sequence[float]]) -> bool:
    rounds = min((len(times) for times in times_s.values()), default=_ROUNDS[1])
    total_s = sum(sum(times) for times in times_s.values())
    if rounds < _ROUNDS[0]:
        return rounds == 0 or total_s < _TOO_LONG_S
    return rounds < _ROUNDS[1] and total_s < _ENOUGH_S


def run_time_s(probes: Sequence[Probe], networks: Networks, seconds: Seconds) -> float:
    """Return how long all networks of an engine take together for their test vectors."""
    started = seconds()
    for probe, runtime in zip(probes, all_of(networks), strict=True):
        runtime.run(probe.vector.inputs)
    return seconds() - started


def processor(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """Return the model of this machine's processor."""
    try:
        lines = cpuinfo.read_text("utf-8").splitlines()
    except OSError:
        lines = []
    named = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.machine()
