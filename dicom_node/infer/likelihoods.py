"""How likely each class is: from what a network gives, and voxel by voxel beside a mask.

A mask says which voxels belong to a segment. An engine whose manifest says `probabilities: true`
says of all voxels how likely they do, those outside of the mask and those that were cleaned from it
too: what the network gives is interpolated everywhere, not along the borders alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, softmax

from dicom_node.infer.blocks import Model, SegmentLabel

CERTAIN = 255
"""What stands for a probability of 1; 0 for none."""


def likelihoods_of(
    logits: NDArray[np.float32], classes_are: Literal["exclusive", "independent"], axis: int
) -> NDArray[np.float32]:
    """Return logits as probabilities, the classes along an axis."""
    if classes_are == "independent":
        sigmoid: NDArray[np.float32] = expit(logits)
        return sigmoid
    likelihoods: NDArray[np.float32] = softmax(logits, axis=axis)
    return likelihoods


class Likelihoods:
    """The probabilities of segments on the source's grid, filled slice by slice.

    Parameters
    ----------
    model : Model
        Whether the network gives logits, and whether its classes exclude each other.
    segments : sequence of SegmentLabel
        In the order of their numbers.
    shape : tuple of int
        Of the source: slices, rows, columns.
    """

    def __init__(
        self, model: Model, segments: Sequence[SegmentLabel], shape: tuple[int, int, int]
    ) -> None:
        # exclusive classes have the background before them
        first = 0 if model.classes_are == "exclusive" else 1
        self._channels = [segment.label - first for segment in segments]
        self._model = model
        self.values = np.zeros((len(segments), *shape), np.uint8)
        """(segments, slices, rows, columns), 0 impossible to 255 certain."""

    def note(self, index: int, said: NDArray[np.float32], outside: NDArray[np.bool_]) -> None:
        """Take what the network gives of a slice.

        Parameters
        ----------
        said : numpy.ndarray, shape (channels, rows, columns)
            Interpolated on the source's grid.
        outside : numpy.ndarray, shape (rows, columns)
            What lies outside of the network's field: nothing is there.
        """
        if self._model.gives == "logits":
            said = likelihoods_of(said, self._model.classes_are, axis=0)
        likely = np.rint(np.clip(said[self._channels], 0, 1) * CERTAIN).astype(np.uint8)
        likely[:, outside] = 0
        self.values[:, index] = likely
