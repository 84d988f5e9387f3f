"""The networks of an engine, loaded on the runtime that is chosen for it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

import structlog

from dicom_node.errors import EngineError, EngineUnavailable, InvariantBroken
from dicom_node.infer.asking import Networks
from dicom_node.infer.loading import close, load_on
from dicom_node.infer.manifest import Manifest
from dicom_node.infer.parity import probes_of, require_parity
from dicom_node.infer.runtimes.choice import AUTO, Choice, Speeds, Wishes, decide
from dicom_node.infer.runtimes.measuring import Measuring, Seconds
from dicom_node.infer.runtimes.port import RuntimeKind
from dicom_node.infer.runtimes.registry import DEFAULT, ON_CPU, ON_GPU, RUNTIMES, available

log = structlog.get_logger()


def load_networks(
    manifest: Manifest,
    wishes: Wishes,
    *,
    threads: int,
    runtimes: Mapping[str, RuntimeKind] = RUNTIMES,
    seconds: Seconds = time.perf_counter,
) -> tuple[Networks, Choice]:
    """Return the networks of an engine, and on which runtime they are and why.

    A GPU that was not asked for by name and does not give the answers of the test vector is not
    used; one that is out of memory is, when it has some again.

    Parameters
    ----------
    manifest : Manifest
    wishes : Wishes
    threads : int
        Of the processor, that one run may use.
    runtimes : mapping, optional
        By name.
    seconds : callable, optional
        A clock, to measure with.

    Raises
    ------
    ConfigError
        If a runtime is named that is not there.
    EngineUnavailable
        If memory, the device or the server is lacking now.
    EngineError
        If the networks cannot be loaded, or run right on no runtime.
    """
    refused: dict[str, str] = {}
    while True:
        choice = choose(manifest, wishes, threads, runtimes, refused=refused, seconds=seconds)
        if choice is None:
            raise InvariantBroken("measured, and still no choice")
        kind = runtimes[choice.runtime]
        if wishes.of(manifest.name) != AUTO or choice.runtime not in ON_GPU:
            networks = load_on(kind, manifest, wishes, threads)
            break
        try:
            networks = _load_right(kind, manifest, wishes, threads)
            break
        except EngineUnavailable:
            raise
        except EngineError as error:
            refused[choice.runtime] = error.message
    log.info(
        "runtime_chosen",
        engine=manifest.name,
        runtime=networks.main[0].description,
        reason=choice.reason,
        refused=dict(choice.refused),
    )
    return networks, choice


def choose(
    manifest: Manifest,
    wishes: Wishes,
    threads: int,
    runtimes: Mapping[str, RuntimeKind] = RUNTIMES,
    *,
    refused: Mapping[str, str] | None = None,
    measures: bool = True,
    seconds: Seconds = time.perf_counter,
) -> Choice | None:
    """Return the runtime for an engine, and why; nothing is loaded unless speeds are measured.

    Parameters
    ----------
    measures : bool, optional
        False returns None where speeds would have to be measured.

    Raises
    ------
    ConfigError, EngineError
        As `choice.decide`.
    """
    lacking = available(runtimes)
    refused = refused or {}
    if wishes.cache_dir is None:
        return decide(manifest.name, wishes, lacking, None, refused)
    measuring = _measuring(manifest, wishes, threads, runtimes, wishes.cache_dir, seconds)
    choice = decide(manifest.name, wishes, lacking, measuring.known(), refused)
    if choice is not None or not measures:
        return choice
    try:
        return decide(manifest.name, wishes, lacking, measuring.measured(), refused)
    except OSError as error:
        # Without a note the next start might measure otherwise, and give other bits.
        reason = f"speeds cannot be kept in {wishes.cache_dir}: {error.strerror}"
        return Choice(DEFAULT, reason, refused)


def known_speeds(
    manifest: Manifest, wishes: Wishes, threads: int, runtimes: Mapping[str, RuntimeKind] = RUNTIMES
) -> Speeds | None:
    """Return what was measured of the runtimes on the processor, if it was."""
    if wishes.cache_dir is None:
        return None
    return _measuring(manifest, wishes, threads, runtimes, wishes.cache_dir).known()


def _measuring(
    manifest: Manifest,
    wishes: Wishes,
    threads: int,
    runtimes: Mapping[str, RuntimeKind],
    cache_dir: Path,
    seconds: Seconds = time.perf_counter,
) -> Measuring:
    candidates = {
        name: runtimes[name] for name in ON_CPU if name in runtimes and not runtimes[name].missing()
    }
    return Measuring(manifest, wishes, threads, candidates, cache_dir, seconds)


def _load_right(kind: RuntimeKind, manifest: Manifest, wishes: Wishes, threads: int) -> Networks:
    networks = load_on(kind, manifest, wishes, threads)
    try:
        require_parity(manifest, probes_of(manifest), networks)
    except EngineError:
        close(networks)
        raise
    return networks
