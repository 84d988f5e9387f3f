"""The networks of an engine, loaded on one runtime."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

from dicom_node.errors import EngineError
from dicom_node.infer.asking import Networks
from dicom_node.infer.gate import Parity, Refused, Way, pass_gate
from dicom_node.infer.manifest import Manifest
from dicom_node.infer.probes import all_of, probes_of
from dicom_node.infer.profiles import locate_profiles_of, profiles_of
from dicom_node.infer.runtimes.choice import Wishes
from dicom_node.infer.runtimes.port import LoadOptions, Precision, Runtime, RuntimeKind


def load_on(kind: RuntimeKind, manifest: Manifest, wishes: Wishes, threads: int) -> Networks:
    """Return all networks that a manifest names.

    Raises
    ------
    EngineUnavailable
        If memory, the device or the server is lacking now.
    EngineError
        If the runtime cannot run a file, or one has not the input or output that is named.
    """
    options = options_for(manifest, wishes, threads)
    in_shapes = replace(options, profiles=profiles_of(manifest))
    model, located = manifest.model, manifest.locate
    files = (model.file, *(member.file for member in model.ensemble))
    main = tuple(
        _loaded(kind, manifest.folder / file, in_shapes, manifest.input_names, model.output)
        for file in files
    )
    locate = None
    if located:
        file = manifest.folder / located.file
        in_shapes = replace(options, profiles=locate_profiles_of(manifest))
        locate = _loaded(kind, file, in_shapes, [located.input], located.output)
    return Networks(main, locate)


def load_through_the_gate(
    kind: RuntimeKind,
    manifest: Manifest,
    wishes: Wishes,
    threads: int,
    note: Callable[[Parity], None],
) -> Networks:
    """Return all networks, each in the fastest precision in which it gives the right answers.

    Parameters
    ----------
    note : callable
        Is told of every way that is tried.

    Raises
    ------
    EngineUnavailable
        If the device is lacking now.
    EngineError
        If a network gives the right answers in no precision.
    """
    allowed = {*manifest.model.precisions, Precision.FP32}
    ways = [Way(kind, one) for one in (Precision.FP16, Precision.FP32) if one in allowed]
    options = options_for(manifest, wishes, threads)
    shapes = [profiles_of(manifest)] * (1 + len(manifest.model.ensemble))
    if manifest.locate:
        shapes.append(locate_profiles_of(manifest))
    passed: list[Runtime] = []
    try:
        for probe, profiles in zip(probes_of(manifest), shapes, strict=True):
            gate = pass_gate(
                f"{manifest.name} {manifest.version}",
                manifest.folder / probe.network,
                ways,
                replace(options, profiles=profiles),
                probe.vector,
            )
            for parity in gate.parities:
                note(parity)
            passed.append(gate.runtime)
    except BaseException as error:
        for runtime in passed:
            runtime.close()
        for parity in error.parities if isinstance(error, Refused) else ():
            note(parity)
        raise
    locate = passed.pop() if manifest.locate else None
    return Networks(tuple(passed), locate)


def require_files(manifest: Manifest) -> None:
    """Refuse model files that are not those that a manifest means.

    Raises
    ------
    EngineError
        If a digest is another.
    """
    for name, expected in manifest.model_files.items():
        found = sha256((manifest.folder / name).read_bytes()).hexdigest()
        if found != expected:
            raise EngineError(
                f"{manifest.folder / name} has SHA-256 {found}, but {manifest.name} names "
                f"{expected}",
                hint="restore the file; a new network needs a new version and digest",
            )


def close(networks: Networks) -> None:
    """Free what all of them hold."""
    for runtime in all_of(networks):
        runtime.close()


def options_for(manifest: Manifest, wishes: Wishes, threads: int) -> LoadOptions:
    """Return how the networks of an engine are to be loaded."""
    return LoadOptions(
        threads=threads,
        device=wishes.device,
        precisions=manifest.model.precisions,
        cache_dir=wishes.cache_dir,
        server_url=wishes.server_url,
    )


def _loaded(
    kind: RuntimeKind, file: Path, options: LoadOptions, inputs: Sequence[str], output: str
) -> Runtime:
    runtime = kind.load(file, options)
    for end, wanted, names in (
        ("input", inputs, runtime.inputs),
        ("output", [output], runtime.outputs),
    ):
        for name in wanted:
            if name not in names:
                raise EngineError(f"{file.name} has no {end} {name}, but {', '.join(names)}")
    if missing := set(runtime.inputs) - set(inputs):
        raise EngineError(f"{file.name} wants {', '.join(sorted(missing))} too, which nobody gives")
    return runtime
