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
    for network, input_name, output, name in _parts(manifest):
        if missing := [wanted for wanted in ("input", name) if wanted not in arrays]:
            raise EngineError(f"{file} lacks the array {' and '.join(missing)}")
        given = {input_name: arrays["input"].astype(np.float32)}
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


def largest_difference(probes: Sequence[Probe], networks: Sequence[Runtime]) -> float:
    """Return by how much the network differs that differs most; NaN if one gives no number."""
    found = [difference(*pair) for pair in zip(probes, networks, strict=True)]
    return float(np.max(found))


def require_parity(manifest: Manifest, probes: Sequence[Probe], networks: Networks) -> float:
    """Return by how much the network differs that differs most.

    Raises
    ------
    EngineError
        If that is more than the manifest's tolerance, or no number.
    """
    found = largest_difference(probes, all_of(networks))
    tolerance = manifest.test_vector.tolerance
    if not found <= tolerance:
        raise EngineError(
            f"{manifest.name} does not give the answers of its test vector on "
            f"{networks.main[0].description}: they differ by {found:.3g}, more than {tolerance:g}",
            hint="do not use this engine on this machine",
        )
    return found


def all_of(networks: Networks) -> tuple[Runtime, ...]:
    """Return all networks of an engine, in the order of `probes_of`."""
    return networks.main + ((networks.locate,) if networks.locate else ())


def _parts(manifest: Manifest) -> Iterator[tuple[str, str, str, str]]:
    """Yield file, input, output, and the name in the test vector, of each network."""
    model, locate = manifest.model, manifest.locate
    files = [model.file, *(member.file for member in model.ensemble)]
    for number, file in enumerate(files):
        yield file, model.input, model.output, f"output_{number}" if number else "output"
    if locate:
        yield locate.file, locate.input, locate.output, "locate_output"
