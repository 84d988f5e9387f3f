"""OpenVINO on the CPU: an extra, faster than onnxruntime on 3-D networks.

Left to itself it computes in bfloat16 on processors that have it, so that the same study would get
another answer on another machine. Here it is told float32, unless the engine's author allows bf16;
the description, which every report carries, says which it was.
"""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from dicom_node.infer.runtimes.ends import check_given
from dicom_node.infer.runtimes.failures import translated
from dicom_node.infer.runtimes.onnx_file import read_onnx
from dicom_node.infer.runtimes.port import Arrays, LoadOptions, Precision

_DEVICE = "CPU"
_HINTS = {Precision.FP32: "f32", Precision.BF16: "bf16"}
_LARGE_BYTES = 16 * 2**20


class OpenVinoKind:
    """There where the extra is installed."""

    name = "openvino"

    def missing(self) -> str:
        """Return what to install; see `port.RuntimeKind.missing`."""
        if find_spec("openvino") is None:
            return "openvino is not installed: pip install 'dicom-node[openvino]'"
        return ""

    def load(self, file: Path, options: LoadOptions) -> OpenVino:
        """Return the network of an ONNX file; see `port.RuntimeKind.load`."""
        return OpenVino(file, threads=options.threads, precisions=options.precisions)


KIND = OpenVinoKind()


class OpenVino:
    """One ONNX file, compiled for this processor.

    Parameters
    ----------
    file : Path
        The model.
    threads : int
        Threads that one run may use.
    precisions : frozenset of Precision
        bf16 is taken if it is among them and the processor has it; float32 otherwise.

    Raises
    ------
    EngineError
        If OpenVINO is not installed or cannot run this file.
    """

    def __init__(self, file: Path, *, threads: int, precisions: frozenset[Precision]) -> None:
        self._ends = read_onnx(file).ends
        with translated(f"{file.name} cannot be loaded"):
            openvino = _import_silently()
            core = openvino.Core()
            precision = _precision(core, precisions)
            self._network: Any = core.compile_model(
                str(file),
                _DEVICE,
                {
                    "INFERENCE_PRECISION_HINT": _HINTS[precision],
                    "DYNAMIC_QUANTIZATION_GROUP_SIZE": 0,  # or it would round to int8 on the way
                    "PERFORMANCE_HINT": "LATENCY",
                    "NUM_STREAMS": 1,
                    "INFERENCE_NUM_THREADS": threads,
                    # Several workers and the listener share the cores; each would take the first.
                    "ENABLE_CPU_PINNING": False,
                },
            )
        version = openvino.get_version().split("-")[0]
        self.description = f"openvino {version} CPU {precision}"
        self.inputs = self._ends.input_names
        self.outputs = self._ends.output_names
        self._name = file.name

    def run(self, inputs: Arrays) -> Arrays:
        """Return all outputs by name; see `port.Runtime.run`."""
        check_given(self._name, self._ends, inputs)
        with translated(f"{self._name} failed"):
            # A request of its own for each run: one that is kept answers with the last input again
            # where it is given none, and serves one thread only. It costs nothing (measured).
            request = self._network.create_infer_request()
            request.infer(dict(inputs), share_inputs=True, share_outputs=True)
            outputs = {name: np.array(request.get_tensor(name).data) for name in self.outputs}
            if sum(array.nbytes for array in inputs.values()) >= _LARGE_BYTES:
                # It would keep the largest volume's memory for the life of the worker.
                self._network.release_memory()
        return outputs

    def close(self) -> None:
        """Do nothing: the network's memory goes with this object."""


def _precision(core: Any, allowed: frozenset[Precision]) -> Precision:
    if Precision.BF16 not in allowed:
        return Precision.FP32
    can = core.get_property(_DEVICE, "OPTIMIZATION_CAPABILITIES")
    return Precision.BF16 if "BF16" in can else Precision.FP32


def _import_silently() -> Any:
    """Import OpenVINO without its telemetry.

    A bare `import openvino` writes an identifier of the machine below the home folder and sends an
    event to Google Analytics (seen with 2026.4.1); without the package that does so it falls back
    to a stub of its own. A hospital's node talks to nobody that its administrator did not name.
    """
    modules: dict[str, Any] = sys.modules
    modules["openvino_telemetry"] = None  # Python's way to say that it cannot be imported
    import openvino

    return openvino
