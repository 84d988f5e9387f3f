"""TensorRT on a GPU: a plan, built on this machine from the ONNX file, kept, and checked."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from dicom_node.errors import EngineError, EngineUnavailable
from dicom_node.infer.gpu import driver
from dicom_node.infer.gpu.device import Device
from dicom_node.infer.plans.library import Library, the_library
from dicom_node.infer.runtimes.port import LoadOptions

if TYPE_CHECKING:
    from dicom_node.infer.plans.runtime import TensorRtRuntime


@cache
def the_device(ordinal: int) -> Device:
    """Return a GPU of this process; it has one owner, however many engines run on it."""
    return Device(ordinal)


class TensorRtKind:
    """The GPU.

    Parameters
    ----------
    library : callable
        Returns TensorRT.
    device : callable
        Returns a GPU by its ordinal.
    """

    name = "tensorrt"

    def __init__(
        self,
        library: Callable[[], Library] = the_library,
        device: Callable[[int], Device] = the_device,
    ) -> None:
        self._library = library
        self._device = device

    def missing(self) -> str:
        """Return what is missing on this machine; the driver is asked first.

        TensorRT ends a process that touches it on a machine without a GPU.
        """
        if lacking := driver.missing():
            return lacking
        if find_spec("onnx") is None:
            return "onnx is not installed: pip install 'dicom-node[gpu]'"
        try:
            self._library()
        except EngineError as error:
            return error.in_words
        return ""

    def load(self, file: Path, options: LoadOptions) -> TensorRtRuntime:
        """Return the network of an ONNX file; see `port.RuntimeKind.load`."""
        if lacking := self.missing():
            raise EngineUnavailable(f"TensorRT cannot be used: {lacking}")
        # Not before it is needed: it wants onnx, which comes with the extra.
        from dicom_node.infer.plans.loading import load_runtime

        return load_runtime(self._library(), self._device(options.device), file, options)

    def prepare(self, file: Path, options: LoadOptions) -> str:
        """Build the plan of an ONNX file, or find it; see `port.Prepares.prepare`."""
        begun = time.perf_counter()
        runtime = self.load(file, options)
        runtime.close()
        return f"{runtime.description}: ready after {time.perf_counter() - begun:.1f} s"


KIND = TensorRtKind()
