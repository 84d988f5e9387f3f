"""A volume on its network's grid, laid before the network: by slice, slab, window, or whole.

The answer comes slice by slice along the first axis of the grid, each as soon as no window can
change it any more. So a network with a hundred classes never needs a hundred volumes at once: one
window's depth of them is held, and the mask is made from it as it comes.

What several windows, mirrors or networks say of a voxel is averaged as they give it: logits as
logits, as nnU-Net does. No softmax is needed for a mask: the largest logit is the largest
probability, and a probability is above a threshold where its logit is above that of the threshold.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dicom_node.errors import EngineError, StudyUnusable
from dicom_node.infer.blocks import Locate, Model, VolumeInput, Window
from dicom_node.infer.runtimes.port import Arrays, Runtime
from dicom_node.infer.windows import Windows, windows_over

SLICES_AT_ONCE = 4
SURE_LOGIT = 20.0
"""A logit: 1 - 2e-9."""

VOLUME = (2, 3, 4)
SLICE = (1, 2, 3)
"""Where the axes (slice, row, column) lie in a tensor: neighbouring slices are its channels."""

Planes = Iterator[NDArray[Any]]
"""One slice of the network's grid after the other: what the network gives of each voxel, float32,
shape (channels, rows, columns); or labels, uint8, shape (rows, columns)."""


class Networks(NamedTuple):
    """The networks of one engine, loaded."""

    main: tuple[Runtime, ...]
    """More than one are an ensemble."""
    locate: Runtime | None = None


def planes_of(
    values: NDArray[np.float32],
    wanted: VolumeInput,
    model: Model | Locate,
    runtimes: Sequence[Runtime],
    names: Sequence[str] = (),
) -> Planes:
    """Yield what the networks say of a volume, slice by slice.

    Parameters
    ----------
    values : numpy.ndarray, shape (series, slices, rows, columns), float32
        On the network's grid; most networks see one series.
    wanted : VolumeInput
        How the network sees it.
    model : Model or Locate
    runtimes : sequence of Runtime
        Of one network, or of the members of an ensemble.
    names : sequence of str
        The input of the network that sees each series; all of one name are its channels.

    Raises
    ------
    StudyUnusable
        If there is nothing but air.
    EngineError
        If a network fails, or answers with another shape than the manifest says.
    """
    asked = Asked(model, runtimes, names)
    shape = values.shape[1:]
    if wanted.network_sees == "window" and wanted.window is not None:
        planes = _by_windows(values, wanted.window, asked)
    elif wanted.network_sees == "whole":
        planes = iter(asked.answer(values[None], VOLUME)[0].swapaxes(0, 1))
    else:
        planes = _by_slices(values, wanted.slab_slices or 1, asked)
    count = 0
    for plane in planes:
        if plane.shape[1:] != shape[1:]:
            raise EngineError(f"{model.file} answers with shape {plane.shape[1:]} for {shape[1:]}")
        yield plane[0].astype(np.uint8, copy=False) if _gives(model) == "labels" else plane
        count += 1
    if count != shape[0]:
        raise EngineError(f"{model.file} answers with {count} slices for {shape[0]}")


def tensors_of(values: NDArray[np.float32], slab_slices: int, at: Sequence[int]) -> NDArray[Any]:
    """Return slices, shape (n, series, rows, columns), or slabs, (n, slab_slices, rows, columns).

    Beyond the ends of the volume stands its last slice again.
    """
    if slab_slices == 1:
        return values[:, list(at)].swapaxes(0, 1)
    near = np.arange(slab_slices) - slab_slices // 2
    channels = np.clip(np.asarray(at)[:, None] + near, 0, values.shape[1] - 1)
    slabs: NDArray[np.float32] = values[0, channels]
    return slabs


class Asked:
    """The networks that are asked, each in all mirrors.

    Parameters
    ----------
    model : Model or Locate
    runtimes : sequence of Runtime
        Of one network, or of the members of an ensemble.
    names : sequence of str
        The input that takes each channel; all take the model's if there is none.
    """

    def __init__(
        self, model: Model | Locate, runtimes: Sequence[Runtime], names: Sequence[str] = ()
    ) -> None:
        self.model = model
        self._names = names
        self._runtimes = runtimes
        self._mirrors = ((), *model.mirrors) if isinstance(model, Model) else ((),)

    def answer(self, tensor: NDArray[np.float32], axes: tuple[int, int, int]) -> NDArray[Any]:
        """Return the mean answer of all networks in all mirrors.

        Parameters
        ----------
        tensor : numpy.ndarray, shape (n, channels, ...), float32
        axes : tuple of int
            Where slice, row and column lie in it.

        Returns
        -------
        numpy.ndarray
            Shape (n, channels, ...), for what answers in space.
        """
        total: NDArray[Any] | None = None
        count = 0
        for mirror in self._mirrors:
            flipped = tuple(axes[axis] for axis in mirror)
            shown = np.flip(tensor, flipped) if flipped else tensor
            for runtime in self._runtimes:
                answer = runtime.run(self._inputs(shown))[self.model.output]
                if len(answer) != len(tensor):
                    raise EngineError(
                        f"{self.model.file} answers with shape {answer.shape} for {tensor.shape}"
                    )
                if answer.ndim == tensor.ndim:
                    # A slab has no slices in its answer that could be flipped back.
                    answer = np.flip(answer, tuple(axis for axis in flipped if axis != 1))
                total = answer if total is None else total + answer
                count += 1
        if total is None:
            raise EngineError(f"{self.model.file} was not asked")
        return total if count == 1 else total / np.float32(count)

    def _inputs(self, tensor: NDArray[np.float32]) -> Arrays:
        """Return the tensors that the network's inputs take."""
        if len(set(self._names)) <= 1:
            return {self.model.input: np.ascontiguousarray(tensor)}
        return {
            name: np.ascontiguousarray(
                tensor[:, [at for at, own in enumerate(self._names) if own == name]]
            )
            for name in dict.fromkeys(self._names)
        }


def nobody_asked(model: Model | Locate) -> Callable[[int], NDArray[np.float32]]:
    """Return what is held of a voxel that no network saw, by the number of channels.

    It is background, as sure as can be.
    """
    low, high = (-SURE_LOGIT, SURE_LOGIT) if _gives(model) == "logits" else (0.0, 1.0)

    def said(channels: int) -> NDArray[np.float32]:
        values = np.full(channels, low, np.float32)
        if isinstance(model, Locate) or model.classes_are == "exclusive":
            values[0] = high
        return values

    return said


def _by_slices(values: NDArray[np.float32], slab_slices: int, asked: Asked) -> Planes:
    for first in range(0, values.shape[1], SLICES_AT_ONCE):
        at = range(first, min(first + SLICES_AT_ONCE, values.shape[1]))
        yield from asked.answer(tensors_of(values, slab_slices, at), SLICE)


def _by_windows(values: NDArray[np.float32], wanted: Window, asked: Asked) -> Planes:
    shape = (values.shape[1], values.shape[2], values.shape[3])
    windows = windows_over(shape, wanted.size, wanted.overlap, wanted.weights)
    weights = _outer(*windows.weights)
    held: _Held | None = None
    for start in windows:
        if held is not None:
            yield from held.finished(start[0])
        part = values[(slice(None), *windows.part(start))]
        if wanted.skip_below is not None and not (part[0] >= wanted.skip_below).any():
            continue
        answer = asked.answer(part[None], VOLUME)[0]
        if answer.shape[1:] != windows.size:
            raise EngineError(f"a window of {windows.size} is answered with {answer.shape[1:]}")
        if held is None:
            held = _Held(windows, nobody_asked(asked.model)(len(answer)))
            yield from held.finished(start[0])  # the windows before this one were air
        held.add(start, answer, weights)
    if held is None:
        raise StudyUnusable(f"nothing but air: no voxel reaches {wanted.skip_below:g}")
    yield from held.finished(shape[0])


class _Held:
    """The slices that windows can still change: their weighted answers, and the weights."""

    def __init__(self, windows: Windows, nobody_asked: NDArray[np.float32]) -> None:
        self._windows = windows
        self._nobody_asked = nobody_asked
        self._first = 0
        depth, (_, rows, columns) = windows.size[0], windows.shape
        self._sums = np.zeros((len(nobody_asked), depth, rows, columns), np.float32)
        self._weights = np.zeros((1, depth, rows, columns), np.float32)

    def add(
        self, start: tuple[int, int, int], answer: NDArray[Any], weights: NDArray[np.float32]
    ) -> None:
        """Add what is said of a window that begins with the first slice that is held."""
        _, rows, columns = self._windows.part(start)
        self._sums[:, :, rows, columns] += answer * weights
        self._weights[0, :, rows, columns] += weights

    def finished(self, up_to: int) -> Planes:
        """Yield the slices before `up_to`, where the next window begins, and hold those behind."""
        while (count := min(up_to - self._first, self._windows.size[0])) > 0:
            for index in range(count):
                weights = self._weights[0, index]
                plane = self._sums[:, index] / np.where(weights, weights, np.float32(1))
                plane[:, weights == 0] = self._nobody_asked[:, None]
                yield plane
            for held in (self._sums, self._weights):
                held[:, :-count] = held[:, count:]
                held[:, -count:] = 0
            self._first += count


def _outer(z: NDArray[Any], y: NDArray[Any], x: NDArray[Any]) -> NDArray[np.float32]:
    weights: NDArray[np.float32] = z[:, None, None] * y[None, :, None] * x[None, None, :]
    return weights


def _gives(model: Model | Locate) -> str:
    return "labels" if isinstance(model, Locate) else model.gives
