"""MedMNIST: small images of many kinds in one NumPy archive, with their official split.

Version 2 at 28 pixels, and the larger ones of MedMNIST+ (64, 128, 224). The archives do not name
their labels; those of the 2-D sets stand here, as the package `medmnist` 3.0.2 has them.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from engines.recipes.errors import DataUnusable
from engines.recipes.loaders.archive import read_arrays
from engines.recipes.samples import Samples
from engines.recipes.split import without_twins

_PARTS = {"train": "train", "val": "validation", "test": "test"}
_ORGANS = (
    *("bladder", "femur left", "femur right", "heart", "kidney left", "kidney right", "liver"),
    *("lung left", "lung right", "pancreas", "spleen"),
)


class _Set(NamedTuple):
    title: str
    labels: tuple[str, ...]
    licence: str = "CC BY 4.0"
    of: str = ""
    """Whose images they are, beside MedMNIST's."""


_SETS = {
    "pathmnist": _Set(
        "PathMNIST",
        (
            *("adipose", "background", "debris", "lymphocytes", "mucus", "smooth muscle"),
            *("normal colon mucosa", "cancer-associated stroma"),
            "colorectal adenocarcinoma epithelium",
        ),
        of="Kather et al., PLOS Medicine 2019",
    ),
    "chestmnist": _Set(
        "ChestMNIST",
        (
            *("atelectasis", "cardiomegaly", "effusion", "infiltration", "mass", "nodule"),
            *("pneumonia", "pneumothorax", "consolidation", "edema", "emphysema", "fibrosis"),
            *("pleural thickening", "hernia"),
        ),
        of="Wang et al., ChestX-ray8, CVPR 2017; the NIH Clinical Center",
    ),
    "dermamnist": _Set(
        "DermaMNIST",
        (
            *("actinic keratoses and intraepithelial carcinoma", "basal cell carcinoma"),
            *("benign keratosis-like lesions", "dermatofibroma", "melanoma", "melanocytic nevi"),
            "vascular lesions",
        ),
        "CC BY-NC 4.0",
        "Tschandl et al., HAM10000, Scientific Data 2018",
    ),
    "octmnist": _Set(
        "OCTMNIST",
        ("choroidal neovascularization", "diabetic macular edema", "drusen", "normal"),
        of="Kermany et al., Cell 2018",
    ),
    "pneumoniamnist": _Set(
        "PneumoniaMNIST", ("normal", "pneumonia"), of="Kermany et al., Cell 2018"
    ),
    "retinamnist": _Set(
        "RetinaMNIST",
        tuple(f"diabetic retinopathy grade {grade}" for grade in range(5)),
        of="Liu et al., DeepDRiD, Patterns 2022",
    ),
    "breastmnist": _Set(
        "BreastMNIST",
        ("malignant", "normal or benign"),
        of="Al-Dhabyani et al., Data in Brief 2020",
    ),
    "bloodmnist": _Set(
        "BloodMNIST",
        (
            *("basophil", "eosinophil", "erythroblast", "immature granulocytes", "lymphocyte"),
            *("monocyte", "neutrophil", "platelet"),
        ),
        of="Acevedo et al., Data in Brief 2020",
    ),
    "tissuemnist": _Set(
        "TissueMNIST",
        (
            *("collecting duct, connecting tubule", "distal convoluted tubule"),
            *("glomerular endothelial cells", "interstitial endothelial cells", "leukocytes"),
            *("podocytes", "proximal tubule segments", "thick ascending limb"),
        ),
        of="Ljosa et al., Nature Methods 2012",
    ),
    "organamnist": _Set("OrganAMNIST", _ORGANS, of="Bilic et al., LiTS, 2019"),
    "organcmnist": _Set("OrganCMNIST", _ORGANS, of="Bilic et al., LiTS, 2019"),
    "organsmnist": _Set("OrganSMNIST", _ORGANS, of="Bilic et al., LiTS, 2019"),
}


def load(
    directory: Path,
    *,
    labels: tuple[str, ...] = (),
    twins: bool = False,
    at_most: int | None = None,
) -> Samples:
    """Return the samples of one archive.

    Two classes become one label, the second: `pneumonia`. More become one label each, of which one
    is 1. Several labels stay as they are. Each image counts as a patient, for nobody says whose
    it is; the official split is by patient only where the set's authors made it so.

    Parameters
    ----------
    directory : pathlib.Path
        The archive, or a folder with one of them: `pneumoniamnist.npz`, `chestmnist_64.npz`.
    labels : tuple of str
        Of a set that is not known here, one for each class.
    twins : bool
        Keep images in training and validation that stand in test as well, byte for byte; in
        PneumoniaMNIST there are 8. Without it they are left out there, and test stays whole.
    at_most : int, optional
        Of each part, evenly over it: at 224 pixels an image takes 200 to 600 kB.

    Raises
    ------
    DataUnusable
        If there is no such archive, or its arrays are not those of MedMNIST.
    """
    file = _archive(directory)
    name = re.sub(r"_(28|64|128|224)$", "", file.stem.lower())
    wanted = [f"{part}_{what}" for part in _PARTS for what in ("images", "labels")]
    arrays = read_arrays(file, wanted, "a 2-D archive of MedMNIST, as zenodo.org has them")
    images, targets, split, names = [], [], [], []
    known = _SETS.get(name, _Set(name, labels, "unknown: its archive does not say"))
    for part, ours in _PARTS.items():
        pixels, given = arrays[f"{part}_images"], arrays[f"{part}_labels"]
        if len(pixels) != len(given):
            raise DataUnusable(
                f"{file.name}: {len(pixels)} {part}_images, {len(given)} labels",
                hint="fetch the file again from MedMNIST",
            )
        if at_most and len(pixels) > at_most:
            chosen = np.linspace(0, len(pixels) - 1, at_most).astype(int)
        else:
            chosen = np.arange(len(pixels))
        images.append(_four_axes(pixels[chosen], file).astype(np.float32))
        targets.append(given.reshape(len(given), -1)[chosen])
        split += [ours] * len(chosen)
        names += [f"{name} {part} {index}" for index in chosen]
    labelled, columns = _columns(np.concatenate(targets), known.labels or labels, file)
    samples = Samples(
        images=np.concatenate(images),
        targets=columns,
        labels=labelled,
        patients=np.array(names),
        names=np.array(names),
        split=np.array(split),
        licence=known.licence,
        attribution=(
            "Yang et al., MedMNIST v2, Scientific Data 2023"
            f"{f'; {known.of}' if known.of else ''}. Nobody says which images are of one patient: "
            "each counts as one."
        ),
        source=f"{known.title}, {images[0].shape[1]} pixels, official split",
    )
    return samples if twins else without_twins(samples)


def _archive(directory: Path) -> Path:
    if directory.is_file():
        return directory
    files = sorted(directory.glob("*.npz"))
    if len(files) != 1:
        raise DataUnusable(
            f"{directory} holds {len(files)} archives (*.npz), not one",
            hint="name the file: pneumoniamnist.npz",
        )
    return files[0]


def _four_axes(pixels: NDArray[Any], file: Path) -> NDArray[Any]:
    is_grey = pixels.ndim == 3
    if pixels.dtype != np.uint8 or not (is_grey or (pixels.ndim == 4 and pixels.shape[3] == 3)):
        raise DataUnusable(
            f"{file.name}: images are {pixels.dtype} {pixels.shape}, not 8 bits grey or RGB",
            hint="the 3-D sets of MedMNIST are not read",
        )
    return pixels[..., None] if is_grey else pixels


def _columns(
    given: NDArray[Any], labels: tuple[str, ...], file: Path
) -> tuple[tuple[str, ...], NDArray[np.float32]]:
    """Return the names of the columns, and the columns."""
    several = given.shape[1]
    count = several if several > 1 else int(given.max()) + 1
    labels = labels or tuple(f"class {index}" for index in range(max(count, 2)))
    if len(labels) < count or (several > 1 and len(labels) != several):
        raise DataUnusable(
            f"{file.name} has {count} labels, of which {len(labels)} have a name",
            hint="name each of them: labels",
        )
    if several > 1:
        return labels, given.astype(np.float32)
    one_hot = (given == np.arange(len(labels))).astype(np.float32)
    return (labels[1:], one_hot[:, 1:]) if len(labels) == 2 else (labels, one_hot)
