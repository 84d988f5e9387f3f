"""No patient, and no image, is trained on and asked about."""

from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from engines.recipes.errors import DataLeaks, DataUnusable
from engines.recipes.samples import SPLITS
from engines.recipes.split import by_patient, check_leaks, without_twins
from tests.unit.recipes.making import make_samples

PATIENTS = st.lists(st.integers(0, 15).map(str), min_size=3, max_size=60).filter(
    lambda patients: len(set(patients)) >= 3
)


@settings(deadline=None)
@given(PATIENTS, st.integers(0, 5))
def test_no_patient_is_in_two_parts_and_no_part_is_empty(patients: list[str], seed: int) -> None:
    split = by_patient(make_samples(patients), seed=seed)
    check_leaks(split)
    assert split.split is not None
    assert set(split.split) == set(SPLITS)
    for patient in set(patients):
        assert len(set(split.split[split.patients == patient])) == 1


@settings(deadline=None)
@given(PATIENTS, st.randoms(use_true_random=False))
def test_the_order_of_samples_does_not_matter(patients: list[str], random: object) -> None:
    samples = make_samples(patients)
    order = np.array(sorted(range(len(patients)), key=lambda _: random.random()))  # type: ignore[attr-defined]
    one, other = by_patient(samples), by_patient(samples.take(order))
    assert one.split is not None
    assert other.split is not None
    assert one.split[order].tolist() == other.split.tolist()


def test_another_seed_splits_otherwise_and_the_same_one_the_same() -> None:
    samples = make_samples([str(index) for index in range(40)])
    splits = [by_patient(samples, seed=seed).split for seed in (1, 1, 2)]
    assert np.array_equal(splits[0], splits[1])  # type: ignore[arg-type]
    assert not np.array_equal(splits[0], splits[2])  # type: ignore[arg-type]


def test_a_rare_label_comes_into_every_part() -> None:
    """20 patients of 400 have it: by chance alone a part of 60 would get 0 to 7 of them."""
    rare = np.zeros((400, 2), np.float32)
    rare[::20, 0] = 1
    rare[::2, 1] = 1
    split = by_patient(make_samples([str(index) for index in range(400)], rare), seed=3)
    for name, patients, those in (("train", 280, 14), ("validation", 60, 3), ("test", 60, 3)):
        part = split.part(name)
        assert abs(len(part) - patients) <= 1
        assert abs(part.targets[:, 0].sum() - those) <= 1
        assert abs(part.targets[:, 1].mean() - 0.5) < 0.05


def test_masks_are_spread_by_what_is_drawn_on_them() -> None:
    masks = np.zeros((60, 2, 2), np.uint8)
    masks[::6, 0, 0] = 1
    split = by_patient(make_samples([str(index) for index in range(60)], masks), (0.5, 0.5, 0.0))
    assert [int(split.part(name).targets.sum()) for name in ("train", "validation")] == [5, 5]


def test_patients_who_share_an_image_stay_together() -> None:
    images = np.arange(6, dtype=np.float32).reshape(6, 1, 1, 1).repeat(4, axis=1)
    images[5] = images[0]
    patients = ["a", "b", "c", "d", "e", "f"]
    split = by_patient(make_samples(patients, images=images), (0.5, 0.25, 0.25)).split
    assert split is not None
    assert split[0] == split[5]


@pytest.mark.parametrize("fractions", [(0.5, 0.5, 0.5), (1.2, -0.1, -0.1)])
def test_fractions_that_are_none_are_refused(fractions: tuple[float, float, float]) -> None:
    with pytest.raises(DataUnusable, match="sum to 1"):
        by_patient(make_samples(["a", "b", "c"]), fractions)


def test_too_few_patients_are_refused() -> None:
    with pytest.raises(DataUnusable, match="2 patients cannot be split into 3 parts"):
        by_patient(make_samples(["a", "b", "b"]))


def test_a_leak_is_told_with_its_patients_and_images() -> None:
    images = np.array([1, 2, 3, 1], np.float32).reshape(4, 1, 1, 1)
    samples = make_samples(
        ["ann", "bob", "bob", "eve"], images=images, split=["train", "train", "test", "test"]
    )
    with pytest.raises(
        DataLeaks, match=r"1 patients in more than one part: bob; .*image 0 = image 3"
    ):
        check_leaks(samples)


def test_twins_are_left_out_of_the_earlier_part_and_test_stays_whole() -> None:
    images = np.array([1, 1, 2, 2, 3], np.float32).reshape(5, 1, 1, 1)
    split = ["train", "test", "train", "validation", "train"]
    samples = without_twins(make_samples(list("abcde"), images=images, split=split))
    assert samples.names.tolist() == ["image 1", "image 3", "image 4"]
    assert "2 images left out" in samples.source
    check_leaks(samples)
