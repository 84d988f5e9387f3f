"""NIH ChestX-ray14: 112,120 frontal chest X-rays of 30,805 patients, labels from their reports.

    Data_Entry_2017.csv or Data_Entry_2017_v2020.csv
    images_001/images/*.png ... images_012/images/*.png, or images/*.png
    train_val_list.txt, test_list.txt                       the official split; may be missing

Labels were read from reports by a program; its authors say that more than nine in ten are right.
None says that it is uncertain. The pixels are 8 bits, windowed by the publisher; bone is bright.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from dicom_node.errors import StudyUnusable
from engines.recipes.errors import DataUnusable
from engines.recipes.loaders.archive import read_arrays
from engines.recipes.loaders.progress import Progress, nobody, on_all_cores, some
from engines.recipes.preparation import Preparation, xray
from engines.recipes.samples import Samples
from engines.recipes.split import by_patient

FINDINGS = (
    *("Atelectasis", "Cardiomegaly", "Effusion", "Infiltration", "Mass", "Nodule", "Pneumonia"),
    *("Pneumothorax", "Consolidation", "Edema", "Emphysema", "Fibrosis", "Pleural_Thickening"),
    "Hernia",
)
NO_FINDING = "No Finding"
AP_VIEW = "AP view"
"""As a label: what the table says of the view, not of the patient."""

_TABLES = ("Data_Entry_2017_v2020.csv", "Data_Entry_2017.csv")
_LISTS = ("train_val_list.txt", "test_list.txt")
_COLUMNS = ("Image Index", "Finding Labels", "Patient ID", "View Position")
_LICENCE = "no restriction on use; the NIH Clinical Center is to be named as provider"
_ATTRIBUTION = (
    "The NIH Clinical Center provided the images (nihcc.app.box.com/v/ChestXray-NIHCC). Wang X, "
    "Peng Y, Lu L, Lu Z, Bagheri M, Summers RM: ChestX-ray8, IEEE CVPR 2017, pp. 3462-3471."
)


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    image: str
    findings: tuple[str, ...]
    patient: str
    view: str

    @property
    def labels(self) -> tuple[str, ...]:
        """What is true of it."""
        return (*self.findings, AP_VIEW) if self.view == "AP" else self.findings


def load(
    directory: Path,
    *,
    preparation: Preparation | None = None,
    labels: Sequence[str] = FINDINGS,
    views: Collection[str] = ("PA", "AP"),
    only_present: bool = False,
    fractions: tuple[float, float, float] = (0.7, 0.15, 0.15),
    seed: int = 0,
    cache: bool = False,
    progress: Progress = nobody,
) -> Samples:
    """Return the samples of the whole set, or of a part of it.

    Parameters
    ----------
    directory : pathlib.Path
        The folder above, or an excerpt as one NumPy archive: `images` uint8 (n, rows, columns),
        `image_index`, `finding_labels` and `view_position`, whose images are taken as they are.
    preparation : Preparation, optional
        Of single images; `xray(64)` if it is None.
    labels : sequence of str
        Of `FINDINGS`, `NO_FINDING` and `AP_VIEW`, the columns of the targets.
    views : collection of str
    only_present : bool
        Take the images that are there, where not all folders were fetched.
    fractions, seed
        Where the official lists are missing, of `split.by_patient`. Where they are there, test is
        the official one, and validation is `fractions[1]` of all that is not test.
    cache : bool
        Keep the prepared images beside the data, and take them from there next time.
    progress : callable

    Raises
    ------
    DataUnusable
        If the table, a column, a label, or an image is missing or cannot be read.
    """
    if strange := set(labels) - {*FINDINGS, NO_FINDING, AP_VIEW}:
        raise DataUnusable(
            f"no label {some(sorted(strange))}", hint=f"one of {', '.join(FINDINGS)}, {NO_FINDING}"
        )
    if directory.is_file():
        rows, images = _of_archive(directory)
        official = None
        chosen = [index for index, row in enumerate(rows) if row.view in views]
        rows, images = [rows[index] for index in chosen], images[chosen]
    else:
        files = {file.name: file for file in sorted(directory.rglob("*.png"))}
        rows = [row for row in _table(directory) if row.view in views]
        rows = _with_image(rows, files, only_present, directory)
        official = _official(directory, rows)
        wanted = preparation or xray(64)
        images = _prepared(rows, files, wanted, directory if cache else None, progress)
    if not rows:
        raise DataUnusable(
            f"no image in {directory.name} has one of the views {', '.join(views)}",
            hint="name PA or AP",
        )
    samples = Samples(
        images=images[..., None],
        targets=_targets(rows, labels),
        labels=tuple(labels),
        patients=np.array([row.patient for row in rows]),
        names=np.array([row.image for row in rows]),
        split=None,
        licence=_LICENCE,
        attribution=_ATTRIBUTION,
        source="NIH ChestX-ray14",
    )
    if official is None:
        return by_patient(samples, fractions, seed)
    return _officially(samples, official, fractions, seed)


def _table(directory: Path) -> list[Row]:
    found = [directory / name for name in _TABLES if (directory / name).is_file()]
    if not found:
        raise DataUnusable(
            f"neither {' nor '.join(_TABLES)} is in {directory}",
            hint="fetch it from where the images come",
        )
    with found[0].open(encoding="utf-8-sig", newline="") as opened:
        lines = csv.DictReader(opened)
        columns = lines.fieldnames or ()
        if missing := [column for column in _COLUMNS if column not in columns]:
            raise DataUnusable(
                f"{found[0].name} has no column {some(missing)}, but {', '.join(columns)}",
                hint="take the table as it was published",
            )
        return [_row(found[0].name, lines.line_num, line) for line in lines]


def _row(table: str, number: int, line: dict[str, str]) -> Row:
    image, written, patient, view = (str(line[column] or "").strip() for column in _COLUMNS)
    if not image or not patient.isdigit():
        raise DataUnusable(
            f"{table}:{number}: Image Index is {image!r}, Patient ID {patient!r}",
            hint="take the table as it was published",
        )
    return Row(image, _findings(written, f"{table}:{number}"), f"{int(patient):08d}", view)


def _findings(written: str, where: str) -> tuple[str, ...]:
    found = tuple(one.strip() for one in written.split("|"))
    if strange := [one for one in found if one not in FINDINGS and one != NO_FINDING]:
        raise DataUnusable(
            f"{where}: nobody knows the finding {some(strange)}",
            hint="take the table as it was published, or correct the line",
        )
    return found


def _with_image(
    rows: list[Row], files: dict[str, Path], only_present: bool, directory: Path
) -> list[Row]:
    missing = [row.image for row in rows if row.image not in files]
    if missing and (not only_present or len(missing) == len(rows)):
        raise DataUnusable(
            f"{len(missing)} of {len(rows)} images are not in {directory}: {some(missing)}",
            hint="unpack images_001.tar.gz and the rest there; or take what is there: only_present",
        )
    return [row for row in rows if row.image in files]


def _targets(rows: Sequence[Row], labels: Sequence[str]) -> NDArray[np.float32]:
    return np.array([[label in row.labels for label in labels] for row in rows], np.float32)


def _official(directory: Path, rows: Sequence[Row]) -> NDArray[np.bool_] | None:
    """Return which rows are for the official test, or None where the lists are missing."""
    lists = [directory / name for name in _LISTS]
    there = [one.is_file() for one in lists]
    if not any(there):
        return None
    if not all(there):
        raise DataUnusable(
            f"only one of {' and '.join(_LISTS)} is in {directory}",
            hint="fetch both, or remove the one to have the images split anew",
        )
    train, test = (set(one.read_text("ascii").split()) for one in lists)
    if nowhere := [row.image for row in rows if row.image not in train | test]:
        raise DataUnusable(
            f"{len(nowhere)} images stand in neither list: {some(nowhere)}",
            hint="fetch both lists again",
        )
    return np.array([row.image in test for row in rows])


def _officially(
    samples: Samples,
    is_test: NDArray[np.bool_],
    fractions: tuple[float, float, float],
    seed: int,
) -> Samples:
    source = f"{samples.source}, official test split"
    if is_test.all():
        return replace(samples, split=np.full(len(samples), "test"), source=source)
    rest = fractions[0] + fractions[1]
    inner = (fractions[0] / rest, fractions[1] / rest, 0.0)
    split = np.full(len(samples), "validation")  # the longest word
    split[is_test] = "test"
    split[~is_test] = by_patient(samples.take(~is_test), inner, seed).split
    return replace(samples, split=split, source=source)


def _of_archive(file: Path) -> tuple[list[Row], NDArray[np.float32]]:
    wanted = ("image_index", "finding_labels", "view_position", "images")
    arrays = read_arrays(file, wanted, "an excerpt, or the folder with Data_Entry_2017.csv")
    names, written, views, images = (arrays[name] for name in wanted)
    # The name begins with the patient: 00000231_013.png
    rows = [
        Row(str(name), _findings(str(found), str(name)), str(name)[:8], str(view))
        for name, found, view in zip(names, written, views, strict=True)
    ]
    return rows, images.astype(np.float32)


def _prepared(
    rows: Sequence[Row],
    files: dict[str, Path],
    preparation: Preparation,
    cache_in: Path | None,
    progress: Progress,
) -> NDArray[np.float32]:
    """Return the images as the network sees them; one at a time a thread is held in full."""
    if preparation.image is None:
        raise DataUnusable(
            "X-rays are single images: the preparation names no image",
            hint="train a recipe whose manifest has `image`",
        )
    cached = cache_in / f"prepared_{_key(rows, preparation)}.npy" if cache_in else None
    if cached and cached.is_file():
        kept: NDArray[np.float32] = np.load(cached, allow_pickle=False)
        return kept

    def read(row: Row) -> NDArray[np.float32]:
        try:
            return preparation.of_image(_read(files[row.image]))
        except StudyUnusable as error:
            raise DataUnusable(f"{row.image}: {error.message}", hint=error.hint) from error

    result = np.empty((len(rows), *preparation.image.size), np.float32)
    for index, image in enumerate(on_all_cores(read, rows, progress)):
        result[index] = image
    if cached:
        unfinished = cached.with_suffix(".part.npy")
        np.save(unfinished, result)
        unfinished.replace(cached)
    return result


def _read(file: Path) -> NDArray[np.float32]:
    try:
        with Image.open(file) as opened:
            return np.asarray(opened.convert("L"), np.float32)  # some are RGBA, all of them grey
    except (OSError, SyntaxError, UnidentifiedImageError) as error:
        raise DataUnusable(
            f"{file} cannot be read: {error}", hint="fetch it again: it is broken"
        ) from error


def _key(rows: Sequence[Row], preparation: Preparation) -> str:
    """Return a name for these images, prepared so."""
    told = json.dumps([asdict(preparation), [row.image for row in rows]], default=str)
    return sha256(told.encode()).hexdigest()[:16]
