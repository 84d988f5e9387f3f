"""What the shapes of a model's input and output tell of what it is for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from dicom_node.errors import EngineError
from dicom_node.infer.runtimes.ends import Tensor
from dicom_node.infer.runtimes.onnx_file import OnnxFile

Sees = Literal["image", "slice", "slab", "window", "whole"]

_HINT = "docs/engines.md, The network, has the shapes"
_OPEN_SIDE = {4: 64, 5: 32}
"""Of a test vector, where the file leaves it open; by the rank of the input."""
_BATCH = 2


@dataclass(frozen=True)
class Told:
    """What a model's declarations tell."""

    input: Tensor
    output: Tensor
    sees: Sees
    classifies: bool
    """Answers of the whole input, not of each voxel."""
    sides: tuple[int | None, ...]
    """Of the input, without batch and channels; None is open."""
    channels: int

    @property
    def probe_shape(self) -> tuple[int, ...]:
        """The shape of an input to try it with."""
        shape = self.input.shape or ()
        batch = shape[0] if isinstance(shape[0], int) else (_BATCH if len(shape) == 4 else 1)
        sides = [side or _OPEN_SIDE[len(shape)] for side in self.sides]
        return (batch, self.channels, *sides)


def has_channels_last(declared: OnnxFile) -> bool:
    """Return whether the input has its channels behind rows and columns, as Keras has them."""
    shape = declared.ends.inputs[0].shape or () if declared.ends.inputs else ()
    if len(shape) not in _OPEN_SIDE:
        return False
    first, last = shape[1], shape[-1]
    return isinstance(last, int) and last <= 4 and not (isinstance(first, int) and first <= last)


def told_by(declared: OnnxFile, file: str) -> Told:
    """Return what a model's shapes tell.

    Parameters
    ----------
    declared : OnnxFile
        With its channels in front of rows and columns.
    file : str
        For messages.

    Raises
    ------
    EngineError
        If no engine can be made of it; the message says what would have to be otherwise.
    """
    ends = declared.ends
    if len(ends.inputs) != 1:
        names = ", ".join(ends.input_names) or "none"
        raise EngineError(f"{file} has {len(ends.inputs)} inputs ({names}); one is given to it")
    [given], answer = ends.inputs, ends.outputs[0]
    shape = given.shape or ()
    if given.dtype != np.float32 or len(shape) not in _OPEN_SIDE:
        raise EngineError(
            f"{file} takes {given} as {given.name}; the node gives it float32 images of "
            "[n, channels, rows, columns] or volumes of [n, channels, slices, rows, columns]",
            hint=_HINT,
        )
    channels = shape[1] if isinstance(shape[1], int) else 1
    sides = tuple(side if isinstance(side, int) else None for side in shape[2:])
    rank = len(answer.shape or ())
    if rank not in {2, len(shape)}:
        raise EngineError(
            f"{file} answers {answer} as {answer.name}; for an input of {given} that is neither "
            "[n, classes] nor a value for each pixel or voxel",
            hint=_HINT,
        )
    classifies = rank == 2
    sees = _sees(file, channels, sides, classifies)
    return Told(given, answer, sees, classifies, sides, channels)


def _sees(file: str, channels: int, sides: tuple[int | None, ...], classifies: bool) -> Sees:
    slab = len(sides) == 2 and not classifies and channels >= 3 and channels % 2 == 1
    if channels != 1 and not slab:
        raise EngineError(
            f"{file} takes {channels} channels; the node gives it one, or an odd number of "
            "neighbouring slices to segment",
            hint="repeat the one channel in the model's graph",
        )
    if slab:
        return "slab"
    if len(sides) == 2:
        return "image" if classifies else "slice"
    return "whole" if classifies or None in sides else "window"
