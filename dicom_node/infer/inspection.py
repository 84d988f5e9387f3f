"""What the runtimes of this machine make of an engine: for people who choose and check."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass

from dicom_node.errors import DicomNodeError
from dicom_node.infer.loading import close, load_on, options_for, require_files
from dicom_node.infer.manifest import Manifest
from dicom_node.infer.networks import choose, known_speeds
from dicom_node.infer.notes import Notes
from dicom_node.infer.probes import probes_of, require_parity
from dicom_node.infer.runtimes.choice import Choice, Wishes
from dicom_node.infer.runtimes.port import Prepares, RuntimeKind
from dicom_node.infer.runtimes.registry import NULL, RUNTIMES, available


@dataclass(frozen=True)
class Standing:
    """An engine on this machine."""

    manifest: Manifest
    choice: Choice | None
    """None: it will be measured when it is first loaded."""
    problem: str
    """Why it cannot run here; empty if it can."""
    parities: Mapping[str, Parity]
    """By runtime, as last verified or measured."""


@dataclass(frozen=True)
class Parity:
    """By how much a runtime's answers differed from the test vector."""

    description: str
    difference: float
    at: float | None
    """Seconds since the epoch; None if it was when the speeds were measured."""


@dataclass(frozen=True)
class Verified:
    """What a runtime did with an engine's test vector."""

    runtime: str
    description: str
    difference: float | None
    problem: str
    """Why it is not right; empty if it is."""


@dataclass(frozen=True)
class Built:
    """What was prepared for one network of an engine."""

    runtime: str
    file: str
    words: str
    problem: str


def stand(
    manifest: Manifest,
    wishes: Wishes,
    threads: int,
    runtimes: Mapping[str, RuntimeKind] = RUNTIMES,
) -> Standing:
    """Return how an engine stands on this machine, without loading it."""
    speeds = known_speeds(manifest, wishes, threads, runtimes)
    measured = speeds.measured if speeds else {}
    parities = {name: Parity(name, speed.difference, None) for name, speed in measured.items()}
    parities |= _kept(manifest, wishes)
    try:
        choice = choose(manifest, wishes, threads, runtimes, measures=False)
    except DicomNodeError as error:
        return Standing(manifest, None, error.in_words, parities)
    return Standing(manifest, choice, "", parities)


def to_ask(
    wishes: Wishes, runtimes: Mapping[str, RuntimeKind] = RUNTIMES
) -> tuple[dict[str, RuntimeKind], dict[str, str]]:
    """Return the runtimes that can be asked here, and those that cannot, with the reason.

    `null` is among neither: it has no answers.
    """
    lacking = {name: missing for name, missing in available(runtimes).items() if name != NULL}
    if "kserve" in lacking and not wishes.server_url:
        lacking["kserve"] = "infer.server_url names no server"
    usable = {name: runtimes[name] for name, missing in lacking.items() if not missing}
    return usable, {name: missing for name, missing in lacking.items() if missing}


def verify(
    manifest: Manifest, kinds: Mapping[str, RuntimeKind], wishes: Wishes, threads: int, now: float
) -> Iterator[Verified]:
    """Yield what each runtime does with the test vector; the figures are kept for `stand`.

    Parameters
    ----------
    kinds : mapping
        The runtimes to ask, by name.
    now : float
        Seconds since the epoch.

    Raises
    ------
    EngineError
        If a model file is not the one that the manifest means, or the test vector cannot be read.
    """
    require_files(manifest)
    probes = probes_of(manifest)
    for name, kind in kinds.items():
        description = ""
        try:
            networks = load_on(kind, manifest, wishes, threads)
            description = networks.main[0].description
            try:
                found = require_parity(manifest, probes, networks)
            finally:
                close(networks)
        except DicomNodeError as error:
            yield Verified(name, description, None, error.in_words)
            continue
        _keep(manifest, wishes, name, Parity(description, found, now))
        yield Verified(name, description, found, "")


def build(
    manifest: Manifest, kinds: Mapping[str, RuntimeKind], wishes: Wishes, threads: int
) -> Iterator[Built]:
    """Yield what each runtime that plans ahead has prepared, network by network.

    Raises
    ------
    EngineError
        If a model file is not the one that the manifest means.
    """
    require_files(manifest)
    options = options_for(manifest, wishes, threads)
    for name, kind in kinds.items():
        if not isinstance(kind, Prepares):
            continue
        for file in manifest.model_files:
            try:
                words = kind.prepare(manifest.folder / file, options)
            except DicomNodeError as error:
                yield Built(name, file, "", error.in_words)
            else:
                yield Built(name, file, words, "")


def _keep(manifest: Manifest, wishes: Wishes, runtime: str, parity: Parity) -> None:
    if wishes.cache_dir is None:
        return
    note = {
        "model_digest": manifest.model_digest,
        "runtimes": {name: vars(kept) for name, kept in _kept(manifest, wishes).items()}
        | {runtime: vars(parity)},
    }
    notes = Notes(wishes.cache_dir / "parity")
    with suppress(OSError), notes.alone(manifest.name):  # to look is no reason to fail
        notes.write(manifest.name, note)


def _kept(manifest: Manifest, wishes: Wishes) -> dict[str, Parity]:
    note = Notes(wishes.cache_dir / "parity").read(manifest.name) if wishes.cache_dir else None
    if note is None or note.get("model_digest") != manifest.model_digest:
        return {}
    try:
        return {name: Parity(**kept) for name, kept in note["runtimes"].items()}
    except (KeyError, TypeError, AttributeError):
        return {}
