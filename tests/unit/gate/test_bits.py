"""Frames against a mask of labels without unpacking: right where each voxel is, else not."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from dicom_node.gate.bits import voxels_held

SLICES, ROWS, COLUMNS = 19, 8, 24
Frames = NDArray[np.bool_]


def made(seed: int, labels: list[int]) -> tuple[NDArray[np.uint8], Frames, list[int], list[int]]:
    """Return a mask, its frames, and of each its label and its slice; some slices have no frame."""
    rng = np.random.default_rng(seed)
    mask = rng.choice([0, 0, 0, *labels], (SLICES, ROWS, COLUMNS)).astype(np.uint8)
    mask[:, :2] = 0
    mask[rng.integers(SLICES)] = 0
    order = range(SLICES) if seed % 2 else range(SLICES - 1, -1, -1)
    pairs = [(label, at) for label in labels for at in order if (mask[at] == label).any()]
    frames = np.array([mask[at] == label for label, at in pairs])
    return mask, frames, [label for label, _ in pairs], [at for _, at in pairs]


def held(mask: NDArray[np.uint8], frames: Frames, labels: list[int], slices: list[int]) -> bool:
    """Return what the gate concludes."""
    packed = np.packbits(frames.reshape(len(frames), -1), axis=1, bitorder="little")
    return voxels_held(packed, labels, slices, mask) == np.count_nonzero(mask)


def are_same(mask: NDArray[np.uint8], frames: Frames, labels: list[int], slices: list[int]) -> bool:
    """Return the same, voxel by voxel."""
    count = 0
    for frame, label, at in zip(frames, labels, slices, strict=True):
        if not np.array_equal(frame, mask[at] == label):
            return False
        count += int(frame.sum())
    return count == np.count_nonzero(mask)


LABELS = [[1], [3], [255], [1, 2, 3], [2, 4, 6, 7], [1, 2, 4, 8, 15, 16, 200]]


@pytest.mark.parametrize("labels", LABELS)
@pytest.mark.parametrize("seed", range(4))
def test_frames_of_a_mask_are_held(labels: list[int], seed: int) -> None:
    assert held(*made(seed, labels))


@pytest.mark.parametrize("labels", LABELS)
def test_whatever_is_changed_in_frames_or_mask_is_noticed(labels: list[int]) -> None:
    rng = np.random.default_rng(7)
    noticed = 0
    for seed in range(60):
        mask, frames, of, at = made(seed, labels)
        change = seed % 6
        if change == 0:  # one voxel of a frame
            frames.ravel()[rng.integers(frames.size)] ^= True
        elif change == 1:  # one voxel of the mask, perhaps where no frame has any
            mask.ravel()[rng.integers(mask.size)] = rng.choice([0, *labels, 5])
        elif change == 2:  # two frames in each other's place
            one, other = rng.integers(len(frames), size=2)
            frames[[one, other]] = frames[[other, one]]
        elif change == 3:  # a voxel in two frames of its slice, for one that is missing elsewhere
            frames |= np.roll(frames, 1, axis=0) & (rng.random(frames.shape) < 0.01)
        elif change == 4:  # a frame too few
            gone = int(rng.integers(len(frames)))
            frames = np.delete(frames, gone, axis=0)
            del of[gone], at[gone]
        else:  # a voxel of the mask where no frame reaches, and one twice: the counts agree
            mask[:, 0, 0] = labels[0]
            frames |= np.roll(frames, 1, axis=0) & (rng.random(frames.shape) < 0.01)
        assert held(mask, frames, of, at) == are_same(mask, frames, of, at)
        noticed += not are_same(mask, frames, of, at)
    assert noticed > 25


def test_voxels_that_are_twice_do_not_stand_for_others_that_are_missing() -> None:
    mask = np.zeros((1, ROWS, COLUMNS), np.uint8)
    mask[0, 4, :4] = [1, 2, 3, 3]
    frames = np.array([mask[0] == label for label in (1, 2, 3)])
    assert held(mask, frames, [1, 2, 3], [0, 0, 0])
    twice = frames.copy()
    twice[0, 4, 2] = True  # the bits of 3 and 1 together are those of 3
    assert not held(mask, twice, [1, 2, 3], [0, 0, 0])
    twice[2, 4, 2] = False  # bits of 1 alone are not those of 3
    assert not held(mask, twice, [1, 2, 3], [0, 0, 0])
    made_of_others = frames.copy()
    made_of_others[:, 4, 2] = [True, True, False]  # 1 and 2 are 3, but twice
    assert not held(mask, made_of_others, [1, 2, 3], [0, 0, 0])
    more = mask.copy()
    more[0, 0, 0] = 3  # as many voxels as the frames have, and one of them elsewhere
    assert not held(more, twice | frames, [1, 2, 3], [0, 0, 0])


def test_frames_that_end_inside_a_word_are_left_to_others() -> None:
    packed = np.zeros((1, 3), np.uint8)
    assert voxels_held(packed, [1], [0], np.zeros((1, 3, 8), np.uint8)) is None
