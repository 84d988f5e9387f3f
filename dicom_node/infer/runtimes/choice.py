"""Which runtime an engine gets: the one that is named, one on a GPU, or the fastest on the CPU.

What is measured is kept, so that the same input gets the same bits after a restart too. Speed
decides only by a clear lead: what one noisy minute shows must not change an answer.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from dicom_node.config.settings import Config
from dicom_node.errors import ConfigError, EngineError
from dicom_node.infer.runtimes.port import RuntimeKind
from dicom_node.infer.runtimes.registry import DEFAULT, ON_CPU, ON_GPU, RUNTIMES, available

AUTO = "auto"
LEAD = 1.2
"""So many times faster than the default another runtime must be. 2-D networks differ by 5 to 15 %
one way or the other, 3-D ones by 1.7 times."""
WORTH_MS = 5.0
"""And so much: nobody waits for less, and a default is the same on every machine."""


@dataclass(frozen=True, kw_only=True)
class Wishes:
    """What the administrator says of runtimes."""

    runtime: str = AUTO
    by_engine: Mapping[str, str] = field(default_factory=dict)
    """For engines that shall have another."""
    cache_dir: Path | None = None
    """Where plans and measurements are kept; None keeps none, and then nothing is measured."""
    server_url: str = ""
    device: int = 0

    def of(self, engine: str) -> str:
        """Return the runtime for an engine, or `AUTO`."""
        return self.by_engine.get(engine, self.runtime)


def wishes_of(config: Config) -> Wishes:
    """Return what a configuration says of runtimes."""
    return Wishes(
        runtime=config.infer.runtime,
        by_engine=config.infer.runtimes,
        cache_dir=config.cache_dir,
        server_url=config.infer.server_url or "",
    )


@dataclass(frozen=True)
class Speed:
    """What one runtime did with the test vector of an engine."""

    best_ms: float
    """Of all its networks together, the best of a few runs."""
    difference: float
    """From what it should have answered."""


@dataclass(frozen=True)
class Speeds:
    """What the runtimes of this machine did with the test vector of an engine."""

    measured: Mapping[str, Speed]
    refused: Mapping[str, str]
    """Those whose answers differ too much, or that have none, with the reason."""


@dataclass(frozen=True)
class Choice:
    """A runtime, and why."""

    runtime: str
    reason: str
    refused: Mapping[str, str] = field(default_factory=dict)
    """Those that would have been chosen, with the reason why they were not."""


def decide(
    engine: str,
    wishes: Wishes,
    lacking: Mapping[str, str],
    speeds: Speeds | None,
    refused: Mapping[str, str],
) -> Choice | None:
    """Return the runtime for an engine; None if speeds have to be measured first.

    Parameters
    ----------
    engine : str
    wishes : Wishes
    lacking : mapping
        All runtimes, each with what it lacks on this machine, or nothing.
    speeds : Speeds, optional
        As far as they are known.
    refused : mapping
        Runtimes of a GPU that have been tried, with the reason why they are no use.

    Raises
    ------
    ConfigError
        If a runtime is named that is not there; it says who must install what.
    EngineError
        If no runtime gives the answers of the test vector.
    """
    wanted = wishes.of(engine)
    if wanted != AUTO:
        if missing := why_missing(wanted, lacking):
            raise ConfigError(f"{engine} shall run on {wanted}, but {missing}")
        return Choice(wanted, "named in the configuration")
    for name in ON_GPU:
        if name not in refused and not why_missing(name, lacking):
            return Choice(name, "a GPU is there", refused)
    there = [name for name in ON_CPU if not why_missing(name, lacking)]
    if there == [DEFAULT]:
        return Choice(DEFAULT, "the only one here", refused)
    if wishes.cache_dir is None:
        return Choice(DEFAULT, "the default, where no measurement is kept", refused)
    if speeds is None:
        return None
    return fastest(engine, speeds, refused)


def fastest(engine: str, speeds: Speeds, refused: Mapping[str, str]) -> Choice:
    """Return the fastest runtime, if it leads clearly, else the default."""
    refused = {**refused, **speeds.refused}
    if not speeds.measured:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in refused.items())
        raise EngineError(
            f"no runtime gives the answers of {engine}'s test vector: {reasons}",
            hint="do not use this engine on this machine",
        )
    by_speed = sorted(speeds.measured.items(), key=lambda item: item[1].best_ms)
    told = ", ".join(f"{name} {speed.best_ms:.1f} ms" for name, speed in by_speed)
    first, best = by_speed[0]
    default = speeds.measured.get(DEFAULT)
    if default is None or first == DEFAULT:
        return Choice(first, f"the fastest: {told}", refused)
    if best.best_ms * LEAD > default.best_ms or best.best_ms + WORTH_MS > default.best_ms:
        return Choice(
            DEFAULT, f"none is {LEAD:g} times and {WORTH_MS:g} ms faster: {told}", refused
        )
    return Choice(first, f"the fastest: {told}", refused)


def why_missing(name: str, lacking: Mapping[str, str]) -> str:
    """Return why a runtime cannot be used; empty if it can."""
    if name not in lacking:
        return f"there is no runtime called {name}; there are {', '.join(lacking)}"
    return lacking[name]


def misfits(
    wishes: Wishes, engines: Mapping[str, object], runtimes: Mapping[str, RuntimeKind] = RUNTIMES
) -> Iterator[tuple[tuple[str, ...], str]]:
    """Yield key and message of each wish that this machine or its engines cannot fulfil."""
    named: dict[tuple[str, ...], str] = {("infer", "runtime"): wishes.runtime}
    for engine, name in wishes.by_engine.items():
        named["infer", "runtimes", engine] = name
        if engine not in engines:
            yield ("infer", "runtimes", engine), "there is no engine of that name"
    lacking = available(runtimes)
    for path, name in named.items():
        if name != AUTO and (missing := why_missing(name, lacking)):
            yield path, missing
