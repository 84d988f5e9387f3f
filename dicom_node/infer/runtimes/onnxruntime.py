"""onnxruntime on the CPU; its exceptions end here."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import onnxruntime

from dicom_node.errors import EngineError, EngineUnavailable
from dicom_node.infer.runtimes.port import Arrays, LoadOptions

_OUT_OF_MEMORY = ("allocate", "bad_alloc", "bad allocation", "out of memory")
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
        with _translated(f"{file.name} cannot be loaded"):
            self._session = onnxruntime.InferenceSession(
                str(file), options, providers=["CPUExecutionProvider"]
            )
        self.description = f"onnxruntime {onnxruntime.__version__} CPU"
        self.inputs = tuple(str(value.name) for value in self._session.get_inputs())
        self.outputs = tuple(str(value.name) for value in self._session.get_outputs())
        self._name = file.name

    def run(self, inputs: Arrays) -> Arrays:
        """Return all outputs by name; see `port.Runtime.run`."""
        with _translated(f"{self._name} failed"):
            values = self._session.run(list(self.outputs), dict(inputs))
        return dict(zip(self.outputs, values, strict=True))

    def close(self) -> None:
        """Do nothing: the session's memory goes with this object."""


@contextmanager
def _translated(what: str) -> Iterator[None]:
    """Translate whatever onnxruntime raises: its exceptions have no base of their own."""
    try:
        yield
    except Exception as error:
        words = str(error).splitlines()[0] if str(error) else type(error).__name__
        if isinstance(error, MemoryError) or any(sign in str(error) for sign in _OUT_OF_MEMORY):
            raise EngineUnavailable(
                f"{what}: out of memory", hint="give the worker more memory"
            ) from error
        raise EngineError(f"{what}: {words}") from error
