"""Training: batches drawn by seed, Adam with a schedule, the weights of the best epoch kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from engines.recipes.backend import keras

ops = keras.ops

_TINY = 1e-7
Tell = Callable[[int, int, str], None]
"""Is told how many of how many steps are done, and how well the network does."""


@dataclass(frozen=True)
class Method:
    """How a network is trained."""

    epochs: int = 30
    steps: int = 0
    """Batches an epoch; 0: as many as the training set has."""
    batch: int = 64
    learning_rate: float = 2e-3
    """After the warm-up; it then falls to 0 along half a cosine."""
    warm_up: float = 0.1
    """The share of all steps in which the learning rate rises."""
    weight_decay: float = 1e-4
    patience: int = 10
    """Epochs without a better score on validation, after which it stops."""
    smoothing: float = 0.0
    """By how much targets are drawn towards the middle."""
    balance: float = 1.0
    """How far rare classes weigh more: 0 not at all, 1 so that all weigh the same."""
    dice: float = 0.0
    """Of segmentations: the weight of the Dice overlap beside cross-entropy."""
    seed: int = 1


@dataclass(frozen=True)
class Epoch:
    """How it went."""

    loss: float
    score: float
    """On validation."""


class Lesson(Protocol):
    """What a network learns from, and how it is asked."""

    def draw(
        self, chosen: NDArray[np.intp], random: np.random.Generator
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return a batch of these training samples, changed at random, and what is true of it."""

    def score(self, model: Any) -> float:
        """Return how well a model does on validation; larger is better."""


def fit(
    model: Any,
    lesson: Lesson,
    count: int,
    method: Method,
    weights: Sequence[float],
    *,
    masks: bool = False,
    exclusive: bool = False,
    keep_best: bool = True,
    tell: Tell = lambda done, total, words: None,
) -> list[Epoch]:
    """Train a model; it then has the weights of its best epoch on validation, or of its last.

    Parameters
    ----------
    model : keras.Model
    lesson : Lesson
    count : int
        Of training samples.
    method : Method
    weights : sequence of float
        Of each output in the loss where it is present; see `balanced`.
    masks, exclusive : bool
        What the outputs are: one distribution a pixel; one distribution; else each by itself.
    keep_best : bool
        False: all epochs are done and the last is kept, so that `score` chooses nothing.
    tell : callable
    """
    steps = method.steps or max(count // method.batch, 1)
    rates = keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=0.0,
        decay_steps=max(round(steps * method.epochs * (1 - method.warm_up)), 1),
        warmup_target=method.learning_rate,
        warmup_steps=max(round(steps * method.epochs * method.warm_up), 1),
    )
    optimizer = keras.optimizers.Adam(rates, weight_decay=method.weight_decay or None)
    if method.weight_decay:
        optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    loss = _distribution_loss(weights, method, masks) if exclusive else _each_loss(weights, method)
    model.compile(optimizer, loss)
    watch = _Watch(lesson, method, steps, keep_best, tell)
    model.fit(
        _Batches(lesson, count, steps, method),
        epochs=method.epochs,
        shuffle=False,
        verbose=0,
        callbacks=[watch],
    )
    model.set_weights(watch.best_weights)
    return watch.epochs


def balanced(shares: NDArray[Any], balance: float, *, exclusive: bool) -> list[float]:
    """Return the weight of each output, from how often it is present.

    Parameters
    ----------
    shares : numpy.ndarray, shape (outputs,)
        Of the samples, or pixels, in which it is present.
    balance : float
        See `Method`.
    exclusive : bool
        Whether outputs share samples among them; else presence is weighed against absence.
    """
    shares = np.clip(np.asarray(shares, np.float64), 1e-4, 1 - 1e-4)
    full = (1 / len(shares)) / shares if exclusive else (1 - shares) / shares
    return [float(weight) for weight in full**balance]


class _Batches(keras.utils.PyDataset):  # type: ignore[misc]
    """The batches of one epoch after the other; each is drawn from (seed, epoch, its place)."""

    def __init__(self, lesson: Lesson, count: int, steps: int, method: Method) -> None:
        super().__init__()
        self._lesson, self._count, self._steps, self._method = lesson, count, steps, method
        self._epoch = 0

    def __len__(self) -> int:
        return self._steps

    def __getitem__(self, step: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        wanted = self._method.batch
        order = np.random.default_rng([self._method.seed, self._epoch]).permutation
        rounds = -(-wanted * self._steps // self._count)
        dealt = np.concatenate([order(self._count) for _ in range(rounds)])
        chosen = dealt[step * wanted : (step + 1) * wanted]
        random = np.random.default_rng([self._method.seed, self._epoch, step])
        return self._lesson.draw(chosen, random)

    def on_epoch_end(self) -> None:
        self._epoch += 1


class _Watch(keras.callbacks.Callback):  # type: ignore[misc]
    """Asks after each epoch how good the network is, and keeps the best."""

    def __init__(
        self, lesson: Lesson, method: Method, steps: int, keep_best: bool, tell: Tell
    ) -> None:
        super().__init__()
        self._lesson, self._method, self._steps, self._tell = lesson, method, steps, tell
        self._keep_best = keep_best
        self.epochs: list[Epoch] = []
        self.best_weights: list[NDArray[np.float32]] = []
        self._best, self._done, self._since, self._words = -np.inf, 0, 0, ""

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        self._done += 1
        self._tell(self._done, self._steps * self._method.epochs, self._words)

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        score = self._lesson.score(self.model)
        loss = float((logs or {})["loss"])
        self.epochs.append(Epoch(loss, score))
        if score > self._best or not self.best_weights or not self._keep_best:
            self._best, self._since = score, 0
            self.best_weights = self.model.get_weights()
        else:
            self._since += 1
        self._words = f"epoch {epoch + 1}: loss {loss:.3f}, validation {score:.4f}"
        self._tell(self._done, self._steps * self._method.epochs, self._words)
        if self._since >= self._method.patience:
            self.model.stop_training = True


def _each_loss(weights: Sequence[float], method: Method) -> Callable[[Any, Any], Any]:
    """Binary cross-entropy of outputs that are each by themselves; NaN is left out."""

    def loss(true: Any, said: Any) -> Any:
        known = ops.logical_not(ops.isnan(true))
        true = ops.where(known, true, 0.5)
        true = true * (1 - method.smoothing) + method.smoothing / 2
        said = ops.clip(said, _TINY, 1 - _TINY)
        present = ops.convert_to_tensor(list(weights), said.dtype)
        each = -(present * true * ops.log(said) + (1 - true) * ops.log(1 - said))
        each = ops.where(known, each, 0.0)
        return ops.sum(each) / ops.maximum(ops.sum(ops.cast(known, said.dtype)), 1.0)

    return loss


def _distribution_loss(
    weights: Sequence[float], method: Method, masks: bool
) -> Callable[[Any, Any], Any]:
    """Cross-entropy of outputs of which one is true; of masks with their Dice overlap."""

    def loss(true: Any, said: Any) -> Any:
        outputs = said.shape[-1]
        if masks:
            true = ops.one_hot(ops.cast(true, "int32"), outputs)
        smooth = true * (1 - method.smoothing) + method.smoothing / outputs
        weight = ops.convert_to_tensor(list(weights), said.dtype)
        each = -ops.sum(weight * smooth * ops.log(ops.clip(said, _TINY, 1.0)), axis=-1)
        total = ops.mean(each)
        if method.dice:
            axes = tuple(range(len(said.shape) - 1))
            both = ops.sum(true * said, axis=axes)
            overlap = (2 * both + 1) / (ops.sum(true, axis=axes) + ops.sum(said, axis=axes) + 1)
            total = total + method.dice * (1 - ops.mean(overlap[1:]))
        return total

    return loss
