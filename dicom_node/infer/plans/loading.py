"""From an ONNX file to a network that is warm: read, build or find the plan, check, warm up."""

from __future__ import annotations

from pathlib import Path

from dicom_node.infer.gpu.device import Device
from dicom_node.infer.plans.builder import Built, build_plan
from dicom_node.infer.plans.cache import PlanCache
from dicom_node.infer.plans.library import Library
from dicom_node.infer.plans.loaded import Loaded
from dicom_node.infer.plans.recipe import Gpu, recipe_of
from dicom_node.infer.plans.runtime import TensorRtRuntime
from dicom_node.infer.plans.shapes import plan_shapes
from dicom_node.infer.plans.source import read_source
from dicom_node.infer.runtimes.port import LoadOptions, Precision

_WORKSPACE_SHARE = 2
"""A layer may work in half of the device's memory."""


def load_runtime(
    library: Library, device: Device, file: Path, options: LoadOptions
) -> TensorRtRuntime:
    """Return the network of an ONNX file on a device; see `port.RuntimeKind.load`.

    In FP16 where it is allowed, else in FP32; few operators know bf16 in the opsets that are in
    use. Not to be called on the device's own thread: another process may hold the lock of the plan,
    and another thread of this one may need the device to finish it.
    """
    precision = Precision.FP16 if Precision.FP16 in options.precisions else Precision.FP32
    source = read_source(file, precision)
    shapes = plan_shapes(source.name, source.inputs, options.profiles)
    gpu = device.call(lambda: Gpu.of(device))
    workspace_bytes = device.total_bytes // _WORKSPACE_SHARE
    recipe = recipe_of(source, shapes, library, gpu, workspace_bytes)

    def build(timing: bytes) -> Built:
        def work() -> Built:
            return build_plan(
                library, source, shapes, workspace_bytes=workspace_bytes, timing=timing
            )

        return device.call(work)

    def try_out(plan: bytes) -> tuple[TensorRtRuntime, str]:
        loaded = device.call(lambda: Loaded(library, device, plan, source.name))
        runtime = TensorRtRuntime(loaded, f"{library.title} on {device.name}, {source.precision}")
        try:
            words = options.check(runtime) if options.check else "runs; nobody asked for more"
            runtime.warm_up()
        except BaseException:
            runtime.close()
            raise
        return runtime, words

    if options.cache_dir is None:
        return try_out(build(b"").plan)[0]
    return PlanCache(options.cache_dir).use(recipe, build, try_out)
