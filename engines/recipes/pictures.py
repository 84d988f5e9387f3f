"""Pictures for an engine's card: PNG, the same bytes for the same figures.

matplotlib draws them (extra `recipes`), without its global state: no window, no pyplot.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from engines.recipes.calibration import Reliability
from engines.recipes.errors import DataUnusable
from engines.recipes.metrics import auc, roc

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_DOTS_PER_INCH = 110
_COLOURS = ("#2a6f97", "#d1495b", "#3a7d44", "#8d5a97", "#c77b30", "#5f6c7b")
_GREY = "#9aa5b1"
_TRUTH, _SAID = "#3ddc84", "#ff5d73"
_EXAMPLES_A_ROW = 6


def learning_curves(history: Mapping[str, Sequence[float]], file: Path) -> None:
    """Draw what training and validation came to, epoch by epoch.

    Parameters
    ----------
    history : mapping
        As Keras keeps it: `loss` beside `val_loss`, or one of the two; each pair gets a panel.
    file : pathlib.Path
    """
    names = list(dict.fromkeys(name.removeprefix("val_") for name in history))
    names = [name for name in names if name != "learning_rate"]
    figure = _figure(4.2 * len(names), 3.2)
    for axes, name in zip(_panels(figure, 1, len(names)), names, strict=True):
        for index, (key, label) in enumerate(((name, "training"), (f"val_{name}", "validation"))):
            if (values := history.get(key)) is not None:
                epochs = np.arange(1, len(values) + 1)
                axes.plot(epochs, values, color=_COLOURS[index], label=label)
        axes.locator_params(axis="x", integer=True)
        axes.set_xlabel("epoch")
        axes.set_title(name.replace("_", " "))
        axes.legend(frameon=False)
    _save(figure, file)


def roc_curves(answers: Mapping[str, tuple[NDArray[Any], NDArray[Any]]], file: Path) -> None:
    """Draw a ROC curve for each label.

    Parameters
    ----------
    answers : mapping
        By label: scores and truth (n,), as `metrics.auc` takes them. What is always or never
        present has no curve.
    file : pathlib.Path
    """
    figure = _figure(4.4, 4.4)
    (axes,) = _panels(figure, 1, 1)
    axes.plot([0, 1], [0, 1], color=_GREY, linewidth=0.8, linestyle="--")
    for index, (label, (scores, truth)) in enumerate(answers.items()):
        if np.isnan(area := auc(scores, truth)):
            continue
        _, sensitivities, specificities = roc(scores, truth)
        axes.plot(
            np.append(1 - specificities, 0.0),
            np.append(sensitivities, 0.0),
            color=_COLOURS[index % len(_COLOURS)],
            label=f"{label}: AUC {area:.3f}",
        )
    axes.set_xlabel("1 - specificity")
    axes.set_ylabel("sensitivity")
    axes.set_aspect("equal")
    axes.legend(frameon=False, loc="lower right", fontsize=8)
    _save(figure, file)


def reliability_diagram(curves: Mapping[str, Reliability], file: Path) -> None:
    """Draw what was said against what was so: `before` and `after` calibration, say.

    Parameters
    ----------
    curves : mapping
        By name, from `calibration.reliability`. The area of a dot is how many it stands for.
    file : pathlib.Path
    """
    figure = _figure(4.4, 4.4)
    (axes,) = _panels(figure, 1, 1)
    axes.plot([0, 1], [0, 1], color=_GREY, linewidth=0.8, linestyle="--")
    for index, (name, curve) in enumerate(curves.items()):
        colour = _COLOURS[index % len(_COLOURS)]
        axes.plot(curve.said, curve.was, color=colour, linewidth=1, label=name)
        sizes = 10 + 150 * curve.count / curve.count.max()
        axes.scatter(curve.said, curve.was, sizes, color=colour, alpha=0.6, linewidths=0)
    axes.set_xlim(-0.02, 1.02)
    axes.set_ylim(-0.02, 1.02)
    axes.set_xlabel("probability said")
    axes.set_ylabel("share present")
    axes.set_aspect("equal")
    axes.legend(frameon=False, loc="upper left")
    _save(figure, file)


def confusion_matrix(counts: NDArray[np.int64], labels: Sequence[str], file: Path) -> None:
    """Draw how often each class was given each class.

    Parameters
    ----------
    counts : numpy.ndarray, shape (classes, classes)
        From `metrics.confusion`: rows are the truth.
    labels : sequence of str
    file : pathlib.Path
    """
    side = 2.2 + 0.7 * len(labels)
    figure = _figure(side, side)
    (axes,) = _panels(figure, 1, 1)
    totals = counts.sum(axis=1, keepdims=True)
    shares = counts / np.where(totals, totals, 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for row, column in np.ndindex(counts.shape):
        axes.text(
            column,
            row,
            f"{counts[row, column]}\n{shares[row, column]:.0%}",
            color="white" if shares[row, column] > 0.5 else "black",
            ha="center",
            va="center",
            fontsize=9,
        )
    axes.set_xticks(range(len(labels)), labels, rotation=30, ha="right")
    axes.set_yticks(range(len(labels)), labels)
    axes.set_xlabel("said")
    axes.set_ylabel("truth")
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    _save(figure, file)


def examples(images: NDArray[Any], titles: Sequence[str], file: Path) -> None:
    """Draw images in rows, each with its title: truth and what was said.

    Parameters
    ----------
    images : numpy.ndarray, shape (n, rows, columns, channels)
        Of several channels other than RGB (a slab), the middle one is shown.
    titles : sequence of str
    file : pathlib.Path
    """
    _gallery(images, titles, None, file)


def segmented_examples(
    images: NDArray[Any],
    truth: NDArray[Any],
    prediction: NDArray[Any],
    titles: Sequence[str],
    file: Path,
) -> None:
    """Draw images with the outlines of the truth (green) and of what was said (red).

    Parameters
    ----------
    images : numpy.ndarray, shape (n, rows, columns, channels)
    truth, prediction : numpy.ndarray, shape (n, rows, columns)
        Label maps.
    titles : sequence of str
    file : pathlib.Path
    """
    _gallery(images, titles, ((truth, _TRUTH), (prediction, _SAID)), file)


def _gallery(
    images: NDArray[Any],
    titles: Sequence[str],
    outlined: tuple[tuple[NDArray[Any], str], ...] | None,
    file: Path,
) -> None:
    if not len(images) or len(images) != len(titles):
        raise DataUnusable(f"{len(images)} images and {len(titles)} titles make no picture")
    columns = min(len(images), _EXAMPLES_A_ROW)
    rows = -(-len(images) // columns)
    figure = _figure(1.9 * columns, 2.2 * rows)
    panels = _panels(figure, rows, columns)
    for index, axes in enumerate(panels):
        axes.set_axis_off()
        if index >= len(images):
            continue
        image = images[index]
        if image.shape[-1] == 3 and image.min() >= 0 and image.max() <= 255:
            axes.imshow(image.astype(np.uint8))
        else:
            low, high = np.percentile(image, [0.5, 99.5])
            middle = image[..., image.shape[-1] // 2]
            axes.imshow(middle, cmap="gray", vmin=low, vmax=max(high, low + 1e-6))
        for maps, colour in outlined or ():
            for label in range(1, int(maps[index].max()) + 1):
                drawn = np.pad(maps[index] == label, 1).astype(float)
                if drawn.any():
                    across = np.arange(-1, drawn.shape[1] - 1)
                    down = np.arange(-1, drawn.shape[0] - 1)
                    axes.contour(across, down, drawn, [0.5], colors=colour, linewidths=1)
        axes.set_title(titles[index], fontsize=8)
    _save(figure, file)


def _figure(width: float, height: float) -> Figure:
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise DataUnusable(
            "pictures need matplotlib", hint="pip install 'dicom-node[recipes]'"
        ) from error
    return Figure(figsize=(width, height), dpi=_DOTS_PER_INCH, layout="constrained")


def _panels(figure: Figure, rows: int, columns: int) -> list[Axes]:
    panels: list[Axes] = list(np.ravel(figure.subplots(rows, columns, squeeze=False)))
    for axes in panels:
        axes.spines[["top", "right"]].set_visible(False)
    return panels


def _save(figure: Figure, file: Path) -> None:
    # no date and no version, so that the same figures give the same file
    figure.savefig(file, format="png", metadata={"Software": None})
