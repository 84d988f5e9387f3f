"""The gate before service: a network is asked about its engine's test vector, wherever it runs.

The ways to run it are tried in their order, the fastest first: a plan in FP16, one in FP32, the
processor. The first that gives the answers that are stored with the engine is taken; why others
were not is kept, and stands in the ledger.

A network is asked several times: the first run is another than the later ones, which a GPU
replays from a recording. What passes the gate is warm.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from dicom_node.errors import DeviceFull, EngineError, EngineUnavailable, StorageError
from dicom_node.infer.parity import Difference, compare, objection, worst
from dicom_node.infer.plans.shapes import covering
from dicom_node.infer.runtimes.port import LoadOptions, Precision, Runtime, RuntimeKind
from dicom_node.infer.vector import Vector

_RUNS = 3
"""The first; the one that is recorded; the first that is replayed."""


@dataclass(frozen=True)
class Way:
    """A way to run a network: a runtime, in a precision."""

    kind: RuntimeKind
    precision: Precision


@dataclass(frozen=True)
class Parity:
    """How a way to run a network of an engine stood the comparison."""

    engine: str
    """Name and version."""
    network: str
    """Its file."""
    runtime: str
    """As it describes itself; the name of its kind where it could not be loaded."""
    precision: Precision
    difference: Difference | None
    """None where there was no answer."""
    accepted: bool
    reason: str
    """Why it was refused, or how far it is off."""

    @property
    def in_words(self) -> str:
        """For the ledger."""
        verdict = "accepted" if self.accepted else "refused"
        return f"{self.network} on {self.runtime} ({self.precision}) {verdict}: {self.reason}"


@dataclass(frozen=True, eq=False)
class Passed:
    """A network that may serve."""

    runtime: Runtime
    parities: tuple[Parity, ...]
    """Of every way that was tried; the last is that which is taken."""


class Refused(EngineError):
    """No way to run a network gives the right answers; `parities` has what was tried."""

    def __init__(self, message: str, parities: tuple[Parity, ...]) -> None:
        super().__init__(message, hint="do not use this engine on this machine")
        self.parities = parities


def pass_gate(
    engine: str, file: Path, ways: Sequence[Way], options: LoadOptions, vector: Vector
) -> Passed:
    """Return a network, loaded in the first way in which it gives the right answers.

    Parameters
    ----------
    engine : str
        Name and version, for the record.
    file : Path
        The ONNX file.
    ways : sequence of Way
        In the order in which they are tried.
    options : LoadOptions
        Its precisions are those of the way at hand, and its profiles hold the vector too.
    vector : Vector

    Raises
    ------
    EngineError
        If no way gives the right answers; the message has the reason of each.
    DeviceLost
        If a device broke: this process has to end.
    """
    options = replace(
        options,
        profiles={
            name: covering(profile, vector.inputs[name].shape) if name in vector.inputs else profile
            for name, profile in options.profiles.items()
        },
    )
    parities: list[Parity] = []
    for way in ways:
        runtime, parity = _tried(engine, file, way, options, vector)
        parities.append(parity)
        if runtime is not None:
            return Passed(runtime, tuple(parities))
    raise Refused(
        f"{engine} gives the answers of its test vector nowhere on this machine: "
        + "; ".join(parity.in_words for parity in parities),
        tuple(parities),
    )


class _Probe:
    """Asks a network about the vector; a runtime calls it before it gives the network away."""

    def __init__(self, vector: Vector) -> None:
        self._vector = vector
        self.runtime = ""
        self.difference: Difference | None = None

    def __call__(self, runtime: Runtime) -> str:
        vector = self._vector
        self.runtime, self.difference = runtime.description, None
        missing = [name for name in vector.inputs if name not in runtime.inputs]
        if missing or vector.output not in runtime.outputs:
            raise EngineError(
                f"it has the inputs {', '.join(runtime.inputs)} and the outputs "
                f"{', '.join(runtime.outputs)}; the engine names "
                f"{', '.join(vector.inputs)} and {vector.output}"
            )
        answers = (runtime.run(vector.inputs)[vector.output] for _ in range(_RUNS))
        self.difference = worst(
            [compare(vector.expected, answer, vector.meaning) for answer in answers]
        )
        if reason := objection(self.difference, vector.limits):
            raise EngineError(reason)
        return self.difference.in_words


def _tried(
    engine: str, file: Path, way: Way, options: LoadOptions, vector: Vector
) -> tuple[Runtime | None, Parity]:
    probe = _Probe(vector)
    options = replace(options, precisions=frozenset({way.precision}), check=probe)
    runtime: Runtime | None = None
    try:
        runtime = way.kind.load(file, options)
        if probe.difference is None:  # of the kinds only those that keep plans ask themselves
            probe(runtime)
        reason = ""
    except (EngineError, StorageError) as error:
        if isinstance(error, EngineUnavailable) and not isinstance(error, DeviceFull):
            raise  # lost or lacking now: that says nothing of the way
        if runtime is not None:
            runtime.close()
            runtime = None
        reason = error.in_words
    parity = Parity(
        engine=engine,
        network=file.name,
        runtime=probe.runtime or way.kind.name,
        precision=way.precision,
        difference=probe.difference,
        accepted=runtime is not None,
        reason=reason or (probe.difference.in_words if probe.difference else ""),
    )
    return runtime, parity
