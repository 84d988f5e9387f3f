"""Series of slices as the network sees them: one patient a folder, with a mask if one is there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engines.recipes.errors import DataUnusable
from engines.recipes.loaders.volumes import PreparedVolume, prepare_files
from engines.recipes.preparation import Preparation
from engines.recipes.samples import Samples

CHEST, ABDOMEN = "ct-chest-lctsc-011", "ct-abdomen-totalsegmentator"
_SAID = {
    CHEST: (
        "CC BY 3.0",
        "Yang J, Sharp G, Veeraraghavan H, et al.: Data from Lung CT Segmentation Challenge. The "
        "Cancer Imaging Archive, 2017. https://doi.org/10.7937/K9/TCIA.2017.3R3FVZ08. Mask: "
        "cailleyfactor/ct_lung_segmentation, MIT, Copyright (c) 2023 Cailley Factor.",
    ),
    ABDOMEN: (
        "Apache-2.0",
        "Reference files of the tests of TotalSegmentator (Wasserthal J, et al., Radiology: "
        "Artificial Intelligence 2023).",
    ),
}
"""Licence and attribution of the folders that come with this repository."""
_OWN = ("not said", "Studies of your own.")
_MASK = "lung_reference.npz"


def slices_of(directory: Path, folders: tuple[str, ...], preparation: Preparation) -> Samples:
    """Return the slices of series, nothing known of them.

    Parameters
    ----------
    directory : pathlib.Path
    folders : tuple of str
        In it, if they are there; else every folder with files *.dcm counts, as one patient.
    preparation : Preparation

    Raises
    ------
    DataUnusable
        If there is no folder of files.
    StudyUnusable
        If a series is not what the network is for.
    """
    chosen = _folders(directory, folders)
    volumes = [_prepared(folder, preparation) for folder in chosen]
    values = [volume.values for volume in volumes]
    empty = [np.zeros((len(each), 0), np.float32) for each in values]
    return _samples(chosen, values, empty, ())


def drawn_slices_of(
    directory: Path, folders: tuple[str, ...], preparation: Preparation, label: str
) -> Samples:
    """Return the slices of series with the masks that lie beside them.

    A mask is a NumPy archive, lung_reference.npz: `lung` uint8 (slices, rows, columns) on the grid
    of the series, and `sop_instance_uid` of each slice. Masks in SEG or RTSTRUCT are for the loader
    `studies`.
    """
    chosen = _folders(directory, folders)
    values, masks = [], []
    for folder in chosen:
        volume = _prepared(folder, preparation)
        with np.load(folder / _MASK, allow_pickle=False) as archive:
            place = {str(uid): at for at, uid in enumerate(archive["sop_instance_uid"])}
            drawn = archive["lung"]
        order = [place[image.sop_instance_uid] for image in volume.images]
        values.append(volume.values)
        masks.append(volume.drawn(drawn[order], 2))
    return _samples(chosen, values, masks, ("background", label))


def _folders(directory: Path, folders: tuple[str, ...]) -> list[Path]:
    ours = [directory / name for name in folders if (directory / name).is_dir()]
    found = ours or sorted({file.parent for file in directory.glob("*/*.dcm")})
    if not found:
        raise DataUnusable(
            f"{directory} has no folder of DICOM files", hint="one folder a series, its files *.dcm"
        )
    return found


def _prepared(folder: Path, preparation: Preparation) -> PreparedVolume:
    return prepare_files(sorted(folder.glob("*.dcm")), preparation)


def _samples(
    folders: list[Path],
    values: list[NDArray[np.float32]],
    targets: list[NDArray[np.float32]] | list[NDArray[np.uint8]],
    labels: tuple[str, ...],
) -> Samples:
    said = [_SAID.get(folder.name, _OWN) for folder in folders]
    counts = [len(each) for each in values]
    return Samples(
        images=np.concatenate(values)[..., None],
        targets=np.concatenate(targets),
        labels=labels,
        patients=np.repeat([folder.name for folder in folders], counts),
        names=np.array(
            [
                f"{folder.name} slice {at}"
                for folder, count in zip(folders, counts, strict=True)
                for at in range(count)
            ]
        ),
        split=None,
        licence="; ".join(dict.fromkeys(licence for licence, _ in said)),
        attribution=" ".join(dict.fromkeys(words for _, words in said)),
        source=f"{sum(counts)} slices of {len(folders)} CT series",
    )
