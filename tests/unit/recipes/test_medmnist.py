"""MedMNIST's archives of every kind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engines.recipes.errors import DataUnusable
from engines.recipes.loaders import load
from engines.recipes.split import check_leaks

PNEUMONIA = Path(__file__).parents[3] / "engines" / "recipes" / "data" / "pneumoniamnist_28.npz"


def archive(folder: Path, name: str, *, rgb: bool = False, size: int = 28, labels: Any) -> Path:
    """Write an archive as MedMNIST has them, no two images equal."""
    random = np.random.default_rng(0)
    shape = (len(labels), size, size, 3) if rgb else (len(labels), size, size)
    arrays: dict[str, Any] = {
        f"{part}_{what}": random.integers(0, 256, shape, np.uint8) if what == "images" else labels
        for part in ("train", "val", "test")
        for what in ("images", "labels")
    }
    np.savez(folder / name, **arrays)
    return folder / name


def test_the_real_set_has_its_official_split_and_leaks_nothing() -> None:
    samples = load("medmnist", PNEUMONIA)
    assert samples.labels == ("pneumonia",)
    assert samples.images.shape[1:] == (28, 28, 1)
    assert (samples.images.min(), samples.images.max()) == (0, 255)
    counts = {name: len(samples.part(name)) for name in ("train", "validation", "test")}
    assert counts == {"train": 4698, "validation": 524, "test": 624}  # ten of 4708 left out
    assert samples.part("test").targets.sum() == 390
    assert "official split; 10 images left out" in samples.source
    assert samples.licence == "CC BY 4.0"
    assert "Kermany" in samples.attribution
    assert len(set(samples.patients)) == len(samples)
    check_leaks(samples)


def test_twins_stay_if_they_are_wanted() -> None:
    assert len(load("medmnist", PNEUMONIA, twins=True)) == 4708 + 524 + 624


def test_of_two_classes_the_second_is_the_label(tmp_path: Path) -> None:
    archive(tmp_path, "pneumoniamnist_64.npz", size=64, labels=np.array([[0], [1]]))
    samples = load("medmnist", tmp_path)
    assert samples.labels == ("pneumonia",)
    assert samples.targets[:2].tolist() == [[0], [1]]
    assert samples.source == "PneumoniaMNIST, 64 pixels, official split"


def test_of_several_classes_one_is_1(tmp_path: Path) -> None:
    file = archive(tmp_path, "bloodmnist.npz", rgb=True, labels=np.array([[7], [0], [3]]))
    samples = load("medmnist", file)
    assert samples.images.shape == (9, 28, 28, 3)
    assert samples.labels[7] == "platelet"
    assert samples.targets[:3].argmax(axis=1).tolist() == [7, 0, 3]
    assert (samples.targets.sum(axis=1) == 1).all()


def test_several_labels_stay_as_they_are(tmp_path: Path) -> None:
    labels = np.eye(14, dtype=np.uint8)[[2, 6]] | np.eye(14, dtype=np.uint8)[[2, 7]]
    samples = load("medmnist", archive(tmp_path, "chestmnist_128.npz", labels=labels, size=128))
    assert samples.labels[2] == "effusion"
    assert samples.targets[:2].tolist() == labels.tolist()


def test_a_set_that_nobody_knows_needs_names(tmp_path: Path) -> None:
    file = archive(tmp_path, "ours_28.npz", labels=np.array([0, 1, 2]))
    assert load("medmnist", file).labels == ("class 0", "class 1", "class 2")
    assert load("medmnist", file, labels=("a", "b", "c")).labels == ("a", "b", "c")
    with pytest.raises(DataUnusable, match="3 labels, of which 2 have a name"):
        load("medmnist", file, labels=("a", "b"))


def test_a_part_of_a_large_set_is_taken_evenly() -> None:
    samples = load("medmnist", PNEUMONIA, at_most=100, twins=True)
    assert len(samples) == 300
    assert samples.names[99] == "pneumoniamnist train 4707"


def test_archives_that_are_no_sets_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataUnusable, match="holds 0 archives"):
        load("medmnist", tmp_path)
    (tmp_path / "pathmnist.npz").write_bytes(b"PK\x03\x04 cut off")
    with pytest.raises(DataUnusable, match="cannot be read"):
        load("medmnist", tmp_path)
    np.savez(tmp_path / "pathmnist.npz", images=np.zeros(3))
    with pytest.raises(DataUnusable, match="lacks train_images"):
        load("medmnist", tmp_path)
    shapes = {"images": (1, 28, 28, 28), "labels": (1, 1)}
    volumes: dict[str, Any] = {
        f"{part}_{what}": np.zeros(shape, np.uint8)
        for part in ("train", "val", "test")
        for what, shape in shapes.items()
    }
    np.savez(tmp_path / "pathmnist.npz", **volumes)
    with pytest.raises(DataUnusable, match=r"\(1, 28, 28, 28\), not 8 bits grey or RGB"):
        load("medmnist", tmp_path)


def test_a_kind_and_a_place_that_are_not_there_are_told(tmp_path: Path) -> None:
    with pytest.raises(DataUnusable, match="nobody reads imagenet"):
        load("imagenet", tmp_path)
    with pytest.raises(DataUnusable, match="is not there"):
        load("nih", tmp_path / "nowhere")
