"""The networks of an engine, loaded on the runtime that is chosen for it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import structlog

from dicom_node.errors import EngineError, EngineUnavailable, InvariantBroken
from dicom_node.infer.asking import Networks
from dicom_node.infer.gate import Parity
from dicom_node.infer.loading import load_on, load_through_the_gate
from dicom_node.infer.manifest import Manifest
from dicom_node.infer.runtimes.choice import AUTO, Choice, Speeds, Wishes, decide
from dicom_node.infer.runtimes.measuring import Measuring, Seconds
from dicom_node.infer.runtimes.port import RuntimeKind
from dicom_node.infer.runtimes.registry import DEFAULT, ON_CPU, ON_GPU, RUNTIMES, available

log = structlog.get_logger()


class LoadedNetworks(NamedTuple):
    """The networks of an engine on the runtime that was chosen, and how that came about."""

    networks: Networks
    choice: Choice
    parities: tuple[Parity, ...] = ()
    """Of every way that was tried on a GPU, for the ledger."""


def load_networks(
    manifest: Manifest,
    wishes: Wishes,
    *,
    threads: int,
    runtimes: Mapping[str, RuntimeKind] = RUNTIMES,
    seconds: Seconds = time.perf_counter,
) -> LoadedNetworks:
    """Return the networks of an engine, and on which runtime they are and why.

    On a GPU each has passed the gate. One that was not asked for by name, and where they do not
    pass, is not used; one that is lacking now is, when it is there again.

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
    parities: list[Parity] = []
    while True:
        choice = choose(manifest, wishes, threads, runtimes, refused=refused, seconds=seconds)
        if choice is None:
            raise InvariantBroken("measured, and still no choice")
        kind = runtimes[choice.runtime]
        if choice.runtime not in ON_GPU:
            networks = load_on(kind, manifest, wishes, threads)
            break
        try:
            networks = load_through_the_gate(kind, manifest, wishes, threads, parities.append)
            break
        except EngineUnavailable:
            raise
        except EngineError as error:
            if wishes.of(manifest.name) != AUTO:
                raise
            refused[choice.runtime] = error.message
    log.info(
        "runtime_chosen",
        engine=manifest.name,
        runtime=networks.main[0].description,
        reason=choice.reason,
        refused=dict(choice.refused),
    )
    return LoadedNetworks(networks, choice, tuple(parities))


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
