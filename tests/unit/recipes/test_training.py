"""What chooses and what is chosen: batches by seed, weights of classes, thresholds, leaks."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from engines.recipes.augment import Augmentation
from engines.recipes.backend import keras
from engines.recipes.book import NAMES, find_recipe
from engines.recipes.book.making import ask_labels, draw_labels
from engines.recipes.errors import DataLeaks, DataUnusable
from engines.recipes.figures import thresholds_of
from engines.recipes.fitting import Method, balanced, fit
from engines.recipes.folder import manifest_of
from engines.recipes.lesson import RecipeLesson
from engines.recipes.networks import textbook_cnn
from engines.recipes.preparation import of_manifest
from engines.recipes.recipe import Recipe, Settings
from engines.recipes.samples import Samples
from engines.recipes.training import train

SHORT = Method(epochs=3, batch=16, learning_rate=1e-2, weight_decay=1e-4, patience=3)


def bright_or_not(seed: int = 0, patients: int = 24) -> Samples:
    """Return four images of each patient, half of them with a bright square."""
    random = np.random.default_rng(seed)
    images = random.uniform(0, 90, (patients * 4, 16, 16, 1)).astype(np.float32)
    truth = np.arange(patients * 4) % 2
    images[truth == 1, 4:10, 4:10] += 120
    names = np.repeat([f"p{index:02d}" for index in range(patients)], 4)
    split = np.repeat(["train", "train", "validation", "test"], patients)
    return Samples(
        images=images,
        targets=truth[:, None].astype(np.float32),
        labels=("square",),
        patients=names,
        names=np.array([f"image {index}" for index in range(len(truth))]),
        split=split,
        licence="none",
        attribution="nobody",
        source="squares",
    )


def recipe(**changed: Any) -> Recipe:
    squares = Recipe(
        name="intro",
        told="squares",
        load=lambda directory, preparation: bright_or_not(),
        build=lambda dropout: textbook_cnn((16, 16), 1, widths=(4,), dropout=dropout),
        settings=Settings(SHORT, Augmentation(noise=0.02), {"dropout": 0.0}),
        outputs=("square",),
        draw=draw_labels,
        ask=ask_labels,
    )
    return replace(squares, **changed)


def weights(model: Any) -> NDArray[np.float32]:
    return np.concatenate([each.ravel() for each in model.get_weights()])


def test_a_network_learns_and_is_tested_on_others() -> None:
    trained = train(recipe(), bright_or_not(), recipe().settings, {})
    (row,) = trained.figures.rows
    assert row.figure.value > 0.95
    assert row.figure.low <= row.figure.value <= row.figure.high
    assert row.at is not None
    assert row.at.threshold == trained.figures.thresholds[0].present
    assert len(trained.test) == 24


def test_calibration_is_part_of_the_network() -> None:
    trained = train(recipe(), bright_or_not(), recipe().settings, {})
    assert trained.calibrations[0].scale != 1.0
    said = trained.model.predict(trained.test.images, verbose=0)
    np.testing.assert_allclose(said, trained.answers, atol=1e-5)
    assert not np.allclose(trained.answers, trained.uncalibrated, atol=1e-3)


def test_the_same_seed_gives_the_same_weights_and_another_does_not() -> None:
    samples = bright_or_not()
    settings = recipe().settings
    first, again = (weights(train(recipe(), samples, settings, {}).model) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    other = weights(train(recipe(), samples, settings.having({"seed": "2"}), {}).model)
    assert not np.array_equal(first, other)


def test_a_patient_in_two_parts_stops_it() -> None:
    samples = bright_or_not()
    patients = samples.patients.copy()
    patients[-1] = patients[0]
    with pytest.raises(DataLeaks, match="p00"):
        train(recipe(), replace(samples, patients=patients), recipe().settings, {})


def test_test_images_choose_nothing() -> None:
    """Other images of test give the same weights, calibration and thresholds."""
    samples = bright_or_not()
    images = samples.images.copy()
    images[samples.split == "test"] = np.random.default_rng(9).uniform(0, 255, (24, 16, 16, 1))
    one = train(recipe(), samples, recipe().settings, {})
    other = train(recipe(), replace(samples, images=images), recipe().settings, {})
    np.testing.assert_array_equal(weights(one.model), weights(other.model))
    assert one.calibrations == other.calibrations
    assert one.figures.thresholds == other.figures.thresholds
    assert one.figures.rows != other.figures.rows


def test_each_patient_is_asked_about_by_a_network_that_did_not_see_him() -> None:
    """Whose images nobody else resembles is not recognised; with him it would be learnt."""
    samples = bright_or_not(patients=3)
    targets = samples.targets.copy()
    strange = samples.patients == "p02"
    targets[strange] = 1 - targets[strange]
    alone = recipe(leave_one_out=True)
    told: list[str] = []

    def tell(what: str, done: int, total: int, words: str) -> None:
        if what not in told:
            told.append(what)

    trained = train(alone, replace(samples, targets=targets, split=None), alone.settings, {}, tell)
    assert told == ["without p00", "without p01", "without p02", "with all patients"]
    (row,) = trained.figures.rows
    assert [name for name, _ in row.by_patient] == ["p00", "p01", "p02"]
    assert row.by_patient[2][1] < 0.5
    said = trained.answers[trained.test.patients == "p02", 0]
    true = trained.test.truth[trained.test.patients == "p02", 0]
    assert said[true == 1].mean() < said[true == 0].mean()


def test_nobody_is_left_of_one_patient() -> None:
    alone = recipe(leave_one_out=True)
    with pytest.raises(DataUnusable, match="one patient only"):
        train(alone, bright_or_not(patients=1), alone.settings, {})


class _Counting:
    """A lesson that notes what was drawn, and likes each epoch less than the one before."""

    def __init__(self) -> None:
        self.drawn: list[NDArray[np.intp]] = []
        self.asked: list[NDArray[np.float32]] = []

    def draw(
        self, chosen: NDArray[np.intp], random: np.random.Generator
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        self.drawn.append(chosen)
        images = random.uniform(0, 255, (len(chosen), 16, 16, 1)).astype(np.float32)
        return images, random.integers(0, 2, (len(chosen), 1)).astype(np.float32)

    def score(self, model: Any) -> float:
        self.asked.append(weights(model))
        return -float(len(self.asked))


@pytest.fixture
def network() -> Any:
    keras.utils.set_random_seed(1)
    return textbook_cnn((16, 16), 1, widths=(4,))


def test_the_best_epoch_is_kept_and_patience_ends(network: Any) -> None:
    lesson = _Counting()
    epochs = fit(network, lesson, 32, replace(SHORT, epochs=9, patience=2), [1.0])
    assert len(epochs) == 3
    np.testing.assert_array_equal(weights(network), lesson.asked[0])


def test_the_last_epoch_is_kept_where_nothing_may_choose(network: Any) -> None:
    lesson = _Counting()
    method = replace(SHORT, epochs=4, patience=1)
    assert len(fit(network, lesson, 32, method, [1.0], keep_best=False)) == 4
    np.testing.assert_array_equal(weights(network), lesson.asked[3])


def test_an_epoch_sees_every_sample_once(network: Any) -> None:
    lesson = _Counting()
    fit(network, lesson, 48, replace(SHORT, epochs=2), [1.0])
    first, second = np.concatenate(lesson.drawn[-6:-3]), np.concatenate(lesson.drawn[-3:])
    np.testing.assert_array_equal(np.sort(first), np.arange(48))
    np.testing.assert_array_equal(np.sort(second), np.arange(48))
    assert not np.array_equal(first, second)


def test_what_nobody_knows_teaches_nothing(network: Any) -> None:
    class Unknown(_Counting):
        def draw(
            self, chosen: NDArray[np.intp], random: np.random.Generator
        ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
            images, truth = super().draw(chosen, random)
            return images, np.full_like(truth, np.nan)

    dense = network.get_layer("logits").get_weights()
    fit(network, Unknown(), 32, replace(SHORT, weight_decay=0.0), [1.0])
    for before, after in zip(dense, network.get_layer("logits").get_weights(), strict=True):
        np.testing.assert_array_equal(before, after)


def test_rare_classes_weigh_more() -> None:
    assert balanced(np.array([0.75, 0.25]), 1.0, exclusive=True) == pytest.approx([2 / 3, 2.0])
    assert balanced(np.array([0.1, 0.5]), 1.0, exclusive=False) == pytest.approx([9.0, 1.0])
    assert balanced(np.array([0.1, 0.9]), 0.0, exclusive=True) == [1.0, 1.0]


@pytest.mark.parametrize(("lowest", "finds"), [(0.38, 0.95), (0.3, 0.5)])
def test_thresholds_spare_most_and_find_what_is_left(lowest: float, finds: float) -> None:
    """100 absent at 0 to 0.4, 100 present from a little below that, or well below, on."""
    answers = np.concatenate([np.linspace(0, 0.4, 100), np.linspace(lowest, 0.9, 100)])[:, None]
    truth = np.repeat([0.0, 1.0], 100)[:, None]
    (each,) = thresholds_of(recipe(), answers.astype(np.float32), truth.astype(np.float32))
    assert (answers[100:] >= each.limited).mean() >= finds
    assert (answers[:100] >= each.limited).mean() <= 0.02
    assert (answers[:100] >= each.non_diagnostic).mean() <= 0.005
    assert each.limited <= 0.5 <= each.non_diagnostic
    assert lowest <= each.present <= 0.41


def test_the_threshold_of_a_classification_spares_as_many_as_its_recipe_wants() -> None:
    answers = np.concatenate([np.linspace(0, 0.4, 100), np.linspace(0.3, 0.9, 100)])[:, None]
    truth = np.repeat([0.0, 1.0], 100)[:, None]
    wanted = recipe(specificity=0.9)
    (each,) = thresholds_of(wanted, answers.astype(np.float32), truth.astype(np.float32))
    assert (answers[:100] < each.present).mean() == pytest.approx(0.9, abs=0.011)


@pytest.mark.parametrize("name", NAMES)
def test_the_manifest_of_each_recipe_is_one_and_fits_its_network(name: str) -> None:
    chosen = find_recipe(name)
    manifest = manifest_of(chosen)
    assert (manifest.model.input, manifest.model.output) == chosen.ends
    preparation = of_manifest(manifest)
    model = chosen.build(**chosen.settings.network)
    size = preparation.image.size if preparation.image else (128, 128)
    assert model.input.shape[1:3] == size
    assert model.output.shape[-1] == len(chosen.outputs)
    indices = {each.index for each in manifest.classes} | {each.index for each in manifest.faults}
    indices |= {each.index for each in manifest.notes}
    assert indices <= set(range(len(chosen.outputs)))


def test_settings_take_only_what_is_like_them() -> None:
    settings = recipe().settings
    changed = settings.having({"dropout": "0.5", "mirror": "yes", "epochs": "7"})
    assert (changed.method.epochs, changed.augmentation.mirror) == (7, True)
    assert changed.network == {"dropout": 0.5}
    with pytest.raises(DataUnusable, match="no setting is called hold"):
        settings.having({"hold": "yes"})


def test_shares_are_those_of_what_is_drawn() -> None:
    samples = bright_or_not()
    lesson = RecipeLesson(
        recipe(), recipe().settings, samples.part("train"), samples.part("validation")
    )
    assert lesson.shares() == pytest.approx([0.5])
