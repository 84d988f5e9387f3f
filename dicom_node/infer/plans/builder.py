"""A plan, built of an ONNX file by TensorRT on this machine.

Written for TensorRT 10 and 11 and for TensorRT-RTX, where a network has the types of its file. What
TensorRT 8.6 wants instead, by `getattr`: another flag for the network, and flags for precisions.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass

from dicom_node.errors import EngineError
from dicom_node.infer.plans.api import (
    Builder,
    IBuilderConfig,
    INetworkDefinition,
    OnnxParser,
    ParserError,
)
from dicom_node.infer.plans.library import Library
from dicom_node.infer.plans.source import INT8, Source
from dicom_node.infer.runtimes.port import Precision, Profile

VERSION = 1
"""Of what this module tells TensorRT: a part of the identity of every plan."""

_FEATURES = ("PROFILE_SHARING_0806", "RUNTIME_ACTIVATION_RESIZE_10_10")
"""Where there are any: contexts that share a profile (TensorRT 8.6; later ones always do), and
scratch memory by the shape at hand instead of the largest."""

_ASSERTION = re.compile(r"^Assertion failed: .*?\): ")
_NO_WORDS = frozenset({"", "false"})


@dataclass(frozen=True, eq=False)
class Built:
    """A plan, and what building it left."""

    plan: bytes
    timing: bytes
    """The timing cache, with what was measured now; empty if there is none."""
    seconds: float
    warnings: tuple[str, ...]


def build_plan(
    library: Library,
    source: Source,
    shapes: Mapping[str, Profile],
    *,
    workspace_bytes: int,
    timing: bytes = b"",
) -> Built:
    """Return the plan of a network; takes seconds to minutes.

    To be called in the thread that owns the device, with its context.

    Parameters
    ----------
    library : Library
    source : Source
        The network, already in the precision that is wanted.
    shapes : mapping of str to Profile
        Of each input with an open axis.
    workspace_bytes : int
        Scratch memory that a layer may take on the device.
    timing : bytes
        A timing cache of earlier builds.

    Raises
    ------
    EngineError
        If TensorRT cannot run this network; the message names each operator that it lacks.
    DeviceFull
        If its memory does not suffice.
    """
    began = time.perf_counter()
    what = f"{source.name} cannot be built by {library.title}"
    with library.working(what) as heard:
        builder = library.trt.Builder(library.logger)
        network = builder.create_network(_network_flags(library))
        parser = _parse(library, source, network)
        config = builder.create_builder_config()
        _configure(library, source, config, workspace_bytes)
        if shapes:
            _add_profile(source, shapes, builder, config)
        if library.keeps_timings:
            _give_timing(config, timing)
        memory = builder.build_serialized_network(network, config)
        del parser
        if memory is None:
            raise library.failure(what, heard.errors)
        return Built(
            plan=bytes(memory),
            timing=_taken_timing(config) if library.keeps_timings else b"",
            seconds=round(time.perf_counter() - began, 3),
            warnings=heard.warnings,
        )


def _takes_types_from_the_file(library: Library) -> bool:
    """Return whether networks can be strongly typed: TensorRT 8 takes flags for types instead."""
    return hasattr(library.trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED")


def _network_flags(library: Library) -> int:
    name = "STRONGLY_TYPED" if _takes_types_from_the_file(library) else "EXPLICIT_BATCH"
    return 1 << int(getattr(library.trt.NetworkDefinitionCreationFlag, name))


def _configure(
    library: Library, source: Source, config: IBuilderConfig, workspace_bytes: int
) -> None:
    trt = library.trt
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, workspace_bytes)
    # FP32 is what a plan in FP16 falls back to: its digits have to be those of FP32.
    config.clear_flag(trt.BuilderFlag.TF32)
    if not _takes_types_from_the_file(library):
        wanted = {Precision.FP16.value: ("FP16",), INT8: ("INT8", "FP16")}
        for name in wanted.get(source.precision, ()):
            config.set_flag(getattr(trt.BuilderFlag, name))
    for name in _FEATURES:
        if (feature := getattr(trt.PreviewFeature, name, None)) is not None:
            config.set_preview_feature(feature, True)


def _parse(library: Library, source: Source, network: INetworkDefinition) -> OnnxParser:
    """Return the parser: the network refers to its weights until the plan is built."""
    parser = library.trt.OnnxParser(network, library.logger)
    if not parser.parse(source.content):
        errors = [parser.get_error(index) for index in range(parser.num_errors)]
        told = dict.fromkeys(_in_words(library, source, error) for error in errors)
        raise EngineError(f"{source.name}: {'; '.join(told) or 'TensorRT cannot read it'}")
    return parser


def _in_words(library: Library, source: Source, error: ParserError) -> str:
    described = _ASSERTION.sub("", error.desc()).strip().removesuffix(".")
    why = "" if described in _NO_WORDS else f": {described}"
    if not 0 <= error.node() < len(source.nodes):
        return f"{library.title} cannot read it{why}"
    operator, name = source.nodes[error.node()]
    where = f"node {name}" if name else f"node {error.node()} of the graph"
    return f"operator {operator} at {where} is not supported by {library.title}{why}"


def _add_profile(
    source: Source, shapes: Mapping[str, Profile], builder: Builder, config: IBuilderConfig
) -> None:
    profile = builder.create_optimization_profile()
    for name, shape in shapes.items():
        profile.set_shape(name, shape.smallest, shape.usual, shape.largest)
    if config.add_optimization_profile(profile) < 0:
        raise EngineError(f"{source.name}: TensorRT refuses the shapes {dict(shapes)}")


def _give_timing(config: IBuilderConfig, timing: bytes) -> None:
    """Let the builder use what it measured before; of another device it is not taken."""
    cache = config.create_timing_cache(timing)
    if not config.set_timing_cache(cache, False):
        config.set_timing_cache(config.create_timing_cache(b""), False)


def _taken_timing(config: IBuilderConfig) -> bytes:
    cache = config.get_timing_cache()
    return b"" if cache is None else bytes(cache.serialize())
