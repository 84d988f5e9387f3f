"""What goes in and out of a network, and whether what it is given fits.

Every runtime asks here before it runs. onnxruntime refuses what does not fit in words of its own,
but OpenVINO converts numbers, and answers with the last input again where one is missing; a server
would say it after a second of sending.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from dicom_node.errors import EngineError
from dicom_node.infer.runtimes.port import Arrays, Shape


@dataclass(frozen=True)
class Tensor:
    """One input or output, as the file declares it."""

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int | str, ...] | None
    """A word is an open axis; the same word stands for the same length, "" for any. None: any."""

    @property
    def lengths(self) -> Shape | None:
        """Its shape, if no axis is open."""
        if self.shape is None:
            return None
        known = tuple(length for length in self.shape if isinstance(length, int))
        return known if len(known) == len(self.shape) else None

    @property
    def size_bytes(self) -> int | None:
        """Its size, if no axis is open."""
        if (lengths := self.lengths) is None:
            return None
        return math.prod(lengths) * self.dtype.itemsize

    def __str__(self) -> str:
        return _words(self.dtype, self.shape)


@dataclass(frozen=True)
class Ends:
    """The inputs and outputs of a network, in the order of its file."""

    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]

    @property
    def input_names(self) -> tuple[str, ...]:
        return tuple(tensor.name for tensor in self.inputs)

    @property
    def output_names(self) -> tuple[str, ...]:
        return tuple(tensor.name for tensor in self.outputs)


def check_given(what: str, ends: Ends, given: Arrays) -> None:
    """Refuse arrays that the network does not take.

    Parameters
    ----------
    what : str
        The network, for messages: its file's name.

    Raises
    ------
    EngineError
        If a name, a number type or a shape does not fit; the message says both sides.
    """
    names = ends.input_names
    if set(given) != set(names):
        wrong = ", ".join(sorted(given)) or "nothing"
        raise EngineError(f"{what} failed: it takes {', '.join(names)}, but was given {wrong}")
    lengths: dict[str, int] = {}
    for tensor in ends.inputs:
        array = given[tensor.name]
        if array.dtype != tensor.dtype or not _fits(tensor.shape, array.shape, lengths):
            raise EngineError(
                f"{what} failed: {tensor.name} is {_words(array.dtype, array.shape)}, "
                f"but the network takes {tensor}"
            )


def outputs_for(ends: Ends, given: Arrays) -> tuple[Tensor, ...]:
    """Return the outputs with the lengths that follow from the inputs by the names of axes.

    Parameters
    ----------
    given : mapping
        Inputs that fit.
    """
    lengths: dict[str, int] = {}
    for tensor in ends.inputs:
        _fits(tensor.shape, given[tensor.name].shape, lengths)
    return tuple(
        output
        if output.shape is None
        else replace(output, shape=tuple(_known(axis, lengths) for axis in output.shape))
        for output in ends.outputs
    )


def check_answer(what: str, tensor: Tensor, dtype: np.dtype[Any], shape: Sequence[int]) -> None:
    """Refuse an output that is not as it has to be.

    Parameters
    ----------
    what : str
        Who answered, for messages.
    tensor : Tensor
        One of `outputs_for`.

    Raises
    ------
    EngineError
        With both sides.
    """
    if dtype != tensor.dtype or not _fits(tensor.shape, tuple(shape), {}):
        raise EngineError(
            f"{what} answered {_words(dtype, tuple(shape))} as {tensor.name}, not {tensor}"
        )


def _fits(
    declared: tuple[int | str, ...] | None, shape: tuple[int, ...], lengths: dict[str, int]
) -> bool:
    """Return whether a shape fits; `lengths` remembers how long the open axes are."""
    if declared is None:
        return True
    if len(declared) != len(shape) or 0 in shape:
        return False
    for wanted, length in zip(declared, shape, strict=True):
        expected = lengths.setdefault(wanted, length) if isinstance(wanted, str) else wanted
        if wanted != "" and expected != length:
            return False
    return True


def _known(axis: int | str, lengths: Mapping[str, int]) -> int | str:
    return lengths.get(axis, axis) if isinstance(axis, str) and axis else axis


def _words(dtype: np.dtype[Any], shape: tuple[int | str, ...] | None) -> str:
    if shape is None:
        return f"{dtype} of any shape"
    return f"{dtype} [{', '.join(str(axis) or '?' for axis in shape)}]"
