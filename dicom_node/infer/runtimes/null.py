"""Zeros of the right shapes: for tests of the wiring, and to measure all but the network.

It is never chosen by itself, and each finding that it had a part in says so.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from dicom_node.errors import EngineError
from dicom_node.infer.runtimes.ends import Tensor, check_given, outputs_for
from dicom_node.infer.runtimes.onnx_file import read_onnx
from dicom_node.infer.runtimes.port import NO_NETWORK, Arrays, LoadOptions


class NullKind:
    """Always there, never chosen by itself."""

    name = "null"

    def missing(self) -> str:
        """Return nothing: it needs nothing."""
        return ""

    def load(self, file: Path, options: LoadOptions) -> Null:
        """Return the ends of an ONNX file with nothing between them."""
        del options
        return Null(file)


KIND = NullKind()


class Null:
    """The ends of one ONNX file.

    Raises
    ------
    EngineError
        If the file is no ONNX model.
    """

    description = NO_NETWORK

    def __init__(self, file: Path) -> None:
        self._ends = read_onnx(file).ends
        self._name = file.name
        self.inputs = self._ends.input_names
        self.outputs = self._ends.output_names

    def run(self, inputs: Arrays) -> Arrays:
        """Return zeros for all outputs by name; see `port.Runtime.run`."""
        check_given(self._name, self._ends, inputs)
        batch = inputs[self.inputs[0]].shape[0]
        zeros = {}
        for tensor in outputs_for(self._ends, inputs):
            lengths = _with_batch(tensor, batch).lengths
            if lengths is None:
                raise EngineError(
                    f"{self._name}: the file does not tell how large {tensor.name} is ({tensor})",
                    hint="null needs a model whose outputs name the axes of its inputs",
                )
            zeros[tensor.name] = np.zeros(lengths, tensor.dtype)
        return zeros

    def close(self) -> None:
        """Do nothing: there is nothing."""


def _with_batch(tensor: Tensor, batch: int) -> Tensor:
    """Return an output whose first axis is as long as the input's: as all our engines have it."""
    if not tensor.shape or isinstance(tensor.shape[0], int):
        return tensor
    return replace(tensor, shape=(batch, *tensor.shape[1:]))
