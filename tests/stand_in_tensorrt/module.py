"""The module: what `import tensorrt` gives, in the version that is asked for."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import onnx

from dicom_node.infer.plans.api import TensorRt
from tests.stand_in_tensorrt.building import Builder, OnnxParser
from tests.stand_in_tensorrt.faults import Faults
from tests.stand_in_tensorrt.running import OnStream, Runtime


class ILogger:
    """As pybind11 has it: a subclass that does not call its initialiser is not usable."""

    def __init__(self) -> None:
        self.is_ready = True

    def log(self, severity: int, message: str) -> None:
        raise NotImplementedError


def at_once(stream: int, work: Any) -> None:
    """Do what is put on a stream now."""
    work()


def make_tensorrt(
    version: str = "11.4.0.106",
    *,
    name: str = "tensorrt",
    faults: Faults | None = None,
    on_stream: OnStream = at_once,
) -> TensorRt:
    """Return a TensorRT.

    Parameters
    ----------
    version : str
        Below 10 it has the interface of 8.6.
    name : str
        Of the module.
    faults : Faults, optional
        What of it is to fail; it also counts the calls.
    on_stream : callable
        Puts a function on a stream; `FakeCuda.on_stream` on the fake driver.
    """
    faults = faults or Faults()
    old = int(version.split(".")[0]) < 10 and name == "tensorrt"
    loggers: list[Any] = []

    def taken(logger: Any) -> None:
        assert logger.is_ready
        loggers[:] = loggers or [logger]
        assert loggers == [logger], "TensorRT keeps the first logger that it is given"
        faults.log = logger.log

    def builder(logger: Any) -> Builder:
        taken(logger)
        faults.step("Builder")
        return Builder(faults, version)

    def parser(network: Any, logger: Any) -> OnnxParser:
        taken(logger)
        faults.step("OnnxParser")
        return OnnxParser(faults, network)

    def runtime(logger: Any) -> Runtime:
        taken(logger)
        faults.step("Runtime")
        return Runtime(faults, version, old, on_stream)

    new = {
        "NetworkDefinitionCreationFlag": SimpleNamespace(STRONGLY_TYPED=1),
        "BuilderFlag": SimpleNamespace(TF32="TF32"),
        "PreviewFeature": SimpleNamespace(RUNTIME_ACTIVATION_RESIZE_10_10="RESIZE"),
        "ExecutionContextAllocationStrategy": SimpleNamespace(USER_MANAGED="USER_MANAGED"),
    }
    of_86 = {
        "NetworkDefinitionCreationFlag": SimpleNamespace(EXPLICIT_BATCH=0),
        "BuilderFlag": SimpleNamespace(TF32="TF32", FP16="FP16", INT8="INT8"),
        "PreviewFeature": SimpleNamespace(PROFILE_SHARING_0806="PROFILE_SHARING_0806"),
    }
    module = SimpleNamespace(
        __name__=name,
        __version__=version,
        ILogger=ILogger,
        MemoryPoolType=SimpleNamespace(WORKSPACE="WORKSPACE"),
        TensorIOMode=SimpleNamespace(INPUT="INPUT"),
        Builder=builder,
        OnnxParser=parser,
        Runtime=runtime,
        nptype=lambda element: np.dtype(onnx.helper.tensor_dtype_to_np_dtype(element)).type,
        **(of_86 if old else new),
    )
    return cast("TensorRt", module)
