"""onnxruntime on the CPU; its exceptions end here."""

from __future__ import annotations

from pathlib import Path

import onnxruntime

from dicom_node.infer.runtimes.ends import check_given
from dicom_node.infer.runtimes.failures import translated
from dicom_node.infer.runtimes.onnx_file import read_onnx
from dicom_node.infer.runtimes.port import Arrays, LoadOptions

_SEVERITY_ERROR = 3


class OnnxRuntimeKind:
    """The embedded default; always there."""

    name = "onnxruntime"

    def missing(self) -> str:
        """Return nothing: the node depends on it."""
        return ""

    def load(self, file: Path, options: LoadOptions) -> OnnxRuntime:
        """Return the network of an ONNX file; see `port.RuntimeKind.load`."""
        return OnnxRuntime(file, threads=options.threads)


KIND = OnnxRuntimeKind()


class OnnxRuntime:
    """One ONNX file in one session, kept as long as the engine.

    Parameters
    ----------
    file : Path
        The model.
    threads : int
        Threads that one run may use.

    Raises
    ------
    EngineError
        If the file is no model that onnxruntime can load.
    """

    def __init__(self, file: Path, *, threads: int) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = _SEVERITY_ERROR
        # Idle threads would otherwise spin and take the processor from the listener.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        # The arena would keep the largest volume's memory for the life of the worker.
        options.enable_cpu_mem_arena = False
        self._ends = read_onnx(file).ends
        with translated(f"{file.name} cannot be loaded"):
            self._session = onnxruntime.InferenceSession(
                str(file), options, providers=["CPUExecutionProvider"]
            )
        self.description = f"onnxruntime {onnxruntime.__version__} CPU"
        self.inputs = self._ends.input_names
        self.outputs = self._ends.output_names
        self._name = file.name

    def run(self, inputs: Arrays) -> Arrays:
        """Return all outputs by name; see `port.Runtime.run`."""
        check_given(self._name, self._ends, inputs)
        with translated(f"{self._name} failed"):
            values = self._session.run(list(self.outputs), dict(inputs))
        return dict(zip(self.outputs, values, strict=True))

    def close(self) -> None:
        """Do nothing: the session's memory goes with this object."""
