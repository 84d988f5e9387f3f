"""The comparison sees what a reader of results would: distances, other classes, lost overlap."""

from __future__ import annotations

import numpy as np
import pytest

from dicom_node.errors import EngineError
from dicom_node.infer.parity import Difference, Limits, Meaning, compare, objection, worst

LIMITS = Limits(tolerance=0.01)


def test_equal_answers_do_not_differ() -> None:
    answer = np.random.default_rng(1).random((2, 3, 8, 8)).astype(np.float32)
    assert compare(answer, answer, Meaning.EXCLUSIVE) == Difference(0.0, 0.0, 1.0)


def test_a_class_that_changes_counts_even_if_numbers_hardly_differ() -> None:
    expected = np.array([[0.5, 0.499, 0.0]] * 3 + [[0.2, 0.3, 0.5]], np.float32)
    answer = expected.copy()
    answer[0] = [0.499, 0.5, 0.0]
    difference = compare(expected, answer, Meaning.EXCLUSIVE)
    assert difference.max_abs == pytest.approx(0.001, rel=0.01)
    assert difference.flips == 0.25
    assert difference.dice is None


@pytest.mark.parametrize(
    ("meaning", "threshold"), [(Meaning.PROBABILITIES, 0.5), (Meaning.LOGITS, 0.0)]
)
def test_classes_for_themselves_are_there_from_their_threshold(
    meaning: Meaning, threshold: float
) -> None:
    expected = np.full((4, 2), threshold + 0.1, np.float32)
    answer = expected.copy()
    answer[0, 1] = threshold - 0.001
    answer[1] = threshold
    assert compare(expected, answer, meaning).flips == 0.25


def test_labels_have_no_distance_but_overlap() -> None:
    expected = np.zeros((1, 1, 2, 10), np.uint8)
    expected[..., 0, :] = 7
    answer = expected.copy()
    answer[..., 0, 0] = 9
    difference = compare(expected, answer, Meaning.LABELS)
    assert difference.max_abs is None
    assert difference.flips == pytest.approx(1 / 20)
    assert difference.dice == 0.0  # of 9, which is in one of them only
    answer[..., 0, 0] = 0
    assert compare(expected, answer, Meaning.LABELS).dice == pytest.approx(2 * 9 / 19)


def test_the_background_has_no_overlap() -> None:
    expected = np.zeros((1, 1, 4, 4), np.uint8)
    assert compare(expected, expected, Meaning.LABELS).dice == 1.0
    channels = np.zeros((1, 2, 4, 4), np.float32)
    channels[:, 0] = 1
    assert compare(channels, channels, Meaning.EXCLUSIVE).dice == 1.0


def test_overlap_of_channels_for_themselves_is_that_of_the_worst() -> None:
    expected = np.zeros((1, 2, 2, 2), np.float32)
    expected[:, :, 0] = 1
    answer = expected.copy()
    answer[0, 1, 0, 0] = 0.4
    assert compare(expected, answer, Meaning.PROBABILITIES).dice == pytest.approx(2 / 3)


@pytest.mark.parametrize("broken", [np.nan, np.inf, -np.inf])
def test_a_number_that_is_none_is_further_off_than_any(broken: float) -> None:
    expected = np.zeros((1, 2), np.float32)
    answer = np.array([[broken, 0.0]], np.float32)
    difference = compare(expected, answer, Meaning.PROBABILITIES)
    assert difference.max_abs == np.inf
    assert objection(difference, Limits(tolerance=1e9)) != ""


def test_numbers_of_half_precision_are_compared_in_full() -> None:
    expected = np.full((1, 1), 60000, np.float16)
    answer = np.full((1, 1), -60000, np.float32)
    assert compare(expected, answer, Meaning.LOGITS).max_abs == 120000


def test_another_shape_is_no_answer() -> None:
    with pytest.raises(EngineError, match=r"the answer has shape \(1, 3\), not \(1, 2\)"):
        compare(np.zeros((1, 2)), np.zeros((1, 3)), Meaning.EXCLUSIVE)


@pytest.mark.parametrize(
    ("difference", "limits", "reason"),
    [
        (Difference(0.01, 0.5, 0.1), LIMITS, ""),
        (Difference(0.011, 0.0, 1.0), LIMITS, "numbers differ by up to 0.011, more than 0.01"),
        (Difference(None, 0.011, None), LIMITS, "labels differ in a share of 0.011, more than"),
        (Difference(None, 0.01, 0.1), LIMITS, ""),
        (Difference(0.0, 0.002, None), Limits(1, flips_max=0.001), "0.2 % get another class"),
        (Difference(0.0, 0.0, 0.98), Limits(1, dice_min=0.99), "Dice of a class is 0.9800, under"),
        (Difference(0.0, 0.0, None), Limits(1, dice_min=0.99), ""),
        (Difference(9, 1, 0.0), Limits(1, 0.9, 0.1), "; 100 % get another class"),
    ],
)
def test_what_is_above_a_limit_is_objected_to(
    difference: Difference, limits: Limits, reason: str
) -> None:
    objected = objection(difference, limits)
    assert reason in objected
    assert bool(objected) == bool(reason)


def test_of_several_runs_the_worst_counts() -> None:
    runs = [Difference(0.1, 0.0, 0.9), Difference(0.0, 0.5, 1.0)]
    assert worst(runs) == Difference(0.1, 0.5, 0.9)
    assert worst([Difference(None, 0.5, None)]) == Difference(None, 0.5, None)


@pytest.mark.parametrize(
    ("difference", "words"),
    [
        (Difference(0.0018, 0.0, 0.9991), "0.0018, no class changes, the worst overlap of a class"),
        (Difference(None, 0.00012, None), "0.012 % get another class"),
        (Difference(0.5, 0.25, None), "numbers differ by up to 0.5, 25 % get another class"),
    ],
)
def test_a_difference_is_told_in_words(difference: Difference, words: str) -> None:
    assert words in difference.in_words
