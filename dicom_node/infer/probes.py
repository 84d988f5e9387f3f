"""An engine's test vector, network by network: what each is asked, and what it should answer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from dicom_node.errors import EngineError
from dicom_node.finding import FindingKind
from dicom_node.infer.asking import Networks
from dicom_node.infer.manifest import Manifest
from dicom_node.infer.parity import Difference, Limits, Meaning, compare, objection
from dicom_node.infer.runtimes.port import Runtime
from dicom_node.infer.vector import Vector, read_vector


@dataclass(frozen=True, eq=False)
class Probe:
    """What one network of an engine is asked."""

    network: str
    """Its file, for messages."""
    vector: Vector


def probes_of(manifest: Manifest) -> tuple[Probe, ...]:
    """Return a probe for each network: the main ones in their order, then `locate`.

    Raises
    ------
    EngineError
        If the test vector cannot be read or lacks an array.
    """
    file = manifest.folder / manifest.test_vector.file
    written = manifest.test_vector
    limits = Limits(written.tolerance, written.dice_min, written.flips_max)
    return tuple(
        Probe(network, read_vector(file, inputs, output, expected, meaning, limits))
        for network, inputs, output, expected, meaning in _parts(manifest)
    )


def difference(probe: Probe, runtime: Runtime) -> Difference:
    """Return how far a network's answer is from the one that is stored.

    Raises
    ------
    EngineError
        If it gives no answer, or one of another shape.
    """
    vector = probe.vector
    return compare(vector.expected, runtime.run(vector.inputs)[vector.output], vector.meaning)


def require_parity(manifest: Manifest, probes: Sequence[Probe], networks: Networks) -> float:
    """Return by how much the network differs that differs most.

    Raises
    ------
    EngineError
        If one differs by more than the manifest allows.
    """
    largest = 0.0
    for probe, runtime in zip(probes, all_of(networks), strict=True):
        found = difference(probe, runtime)
        if reason := objection(found, probe.vector.limits):
            raise EngineError(
                f"{manifest.name} does not give the answers of its test vector on "
                f"{runtime.description}: {probe.network}: {reason}",
                hint="do not use this engine on this machine",
            )
        largest = max(largest, found.number)
    return largest


def all_of(networks: Networks) -> tuple[Runtime, ...]:
    """Return all networks of an engine, in the order of `probes_of`."""
    return networks.main + ((networks.locate,) if networks.locate else ())


def _parts(manifest: Manifest) -> Iterator[tuple[str, Mapping[str, str], str, str, Meaning]]:
    """Yield of each network: file, the array of each input, output, its array, what it says."""
    model, locate = manifest.model, manifest.locate
    inputs = {name: f"input_{name}" for name in manifest.input_names} | {model.input: "input"}
    files = [model.file, *(member.file for member in model.ensemble)]
    for number, file in enumerate(files):
        array = f"output_{number}" if number else "output"
        yield file, inputs, model.output, array, _meaning(manifest)
    if locate:
        yield locate.file, {locate.input: "input"}, locate.output, "locate_output", Meaning.LABELS


def _meaning(manifest: Manifest) -> Meaning:
    model = manifest.model
    if manifest.kind is FindingKind.REGRESSION:
        return Meaning.NUMBERS
    if model.gives == "labels":
        return Meaning.LABELS
    if model.classes_are == "exclusive" and manifest.kind is not FindingKind.QUALITY:
        return Meaning.EXCLUSIVE
    return Meaning.LOGITS if model.gives == "logits" else Meaning.PROBABILITIES
