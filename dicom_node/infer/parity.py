"""Whether a runtime gives the answers that an engine was released with: its test vector."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dicom_node.errors import EngineError
from dicom_node.infer.asking import Networks
from dicom_node.infer.manifest import Manifest
from dicom_node.infer.runtimes.port import Arrays, Runtime


@dataclass(frozen=True, eq=False)
class Probe:
    """What one network of an engine was given, and what it answered."""

    network: str
    """Its file, for messages."""
    given: Arrays
    output: str
    expected: NDArray[Any]


def probes_of(manifest: Manifest) -> tuple[Probe, ...]:
    """Return a probe for each network: the main ones in their order, then `locate`.

    Raises
    ------
    EngineError
        If the test vector cannot be read or lacks an array.
    """
    file = manifest.test_vector.file
    try:
        with np.load(manifest.folder / file) as vector:
            arrays = {name: vector[name] for name in vector.files}
    except (OSError, ValueError) as error:
        raise EngineError(f"{file} cannot be read: {error}") from error
    probes = []
    for network, inputs, output, name in _parts(manifest):
        if missing := [wanted for wanted in (*inputs.values(), name) if wanted not in arrays]:
            raise EngineError(f"{file} lacks the array {' and '.join(missing)}")
        given = {one: arrays[array].astype(np.float32) for one, array in inputs.items()}
        probes.append(Probe(network, given, output, arrays[name]))
    return tuple(probes)


def difference(probe: Probe, runtime: Runtime) -> float:
    """Return by how much a runtime's answer differs: at most, or for labels the share that does.

    Raises
    ------
    EngineError
        If it gives no answer, or one of another shape.
    """
    answer, expected = runtime.run(probe.given)[probe.output], probe.expected
    if answer.shape != expected.shape:
        raise EngineError(
            f"{probe.network}: the answer has shape {answer.shape}, not {expected.shape}"
        )
    if answer.dtype.kind in "iu":
        return float(np.mean(answer != expected))
    return float(np.abs(answer - expected.astype(np.float32)).max())


def worst(probes: Sequence[Probe], networks: Networks) -> tuple[Probe, float]:
    """Return the network that differs most, and by how much; NaN, no number, is the most."""
    found = [difference(*pair) for pair in zip(probes, all_of(networks), strict=True)]
    index = int(np.argmax(found))
    return probes[index], found[index]


def require_parity(manifest: Manifest, probes: Sequence[Probe], networks: Networks) -> float:
    """Return by how much the network differs that differs most.

    Raises
    ------
    EngineError
        If that is more than the manifest's tolerance, or no number.
    """
    probe, found = worst(probes, networks)
    tolerance = manifest.test_vector.tolerance
    if not found <= tolerance:
        raise EngineError(
            f"{manifest.name} does not give the answers of its test vector on "
            f"{networks.main[0].description}: {probe.network} differs by {found:.3g}, more than "
            f"{tolerance:g}",
            hint="do not use this engine on this machine",
        )
    return found


def all_of(networks: Networks) -> tuple[Runtime, ...]:
    """Return all networks of an engine, in the order of `probes_of`."""
    return networks.main + ((networks.locate,) if networks.locate else ())


def _parts(manifest: Manifest) -> Iterator[tuple[str, dict[str, str], str, str]]:
    """Yield, of each network, its file, the array of each input, its output, and its array."""
    model, locate = manifest.model, manifest.locate
    inputs = {name: f"input_{name}" for name in manifest.input_names} | {model.input: "input"}
    files = [model.file, *(member.file for member in model.ensemble)]
    for number, file in enumerate(files):
        yield file, inputs, model.output, f"output_{number}" if number else "output"
    if locate:
        yield locate.file, {locate.input: "input"}, locate.output, "locate_output"
