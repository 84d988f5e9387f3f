"""LIDC-IDRI: CT of the chest with what four readers have marked: nodules, and how malignant.

    DIR/.../*.dcm      the CT series, as The Cancer Imaging Archive lays them out or otherwise
    DIR/.../*.xml      their annotations, beside the slices or in a folder of their own

A series is joined with the XML that names its Series Instance UID; series that none names, such as
X-rays, are passed over. The pixels are 125 GB and come from The Cancer Imaging Archive alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dicom_node.errors import StudyUnusable
from engines.recipes.errors import DataUnusable
from engines.recipes.loaders.folder import SeriesFiles, find_series
from engines.recipes.loaders.lesions import Lesion, SliceOf, consensus, lesions_of
from engines.recipes.loaders.lidc_xml import Outline, Reading, read_annotations
from engines.recipes.loaders.parts import Part, chosen, each, gathered
from engines.recipes.loaders.progress import Progress, nobody, some
from engines.recipes.loaders.volumes import PreparedVolume, prepare_files
from engines.recipes.preparation import Preparation, ct_slices
from engines.recipes.samples import Samples

_LICENCE = "CC BY 3.0"
_ATTRIBUTION = (
    "Armato SG III, McLennan G, Bidaut L, et al.: Data from LIDC-IDRI. The Cancer Imaging Archive, "
    "2015, doi 10.7937/K9/TCIA.2015.LO9QL9SX. Armato SG III et al.: The Lung Image Database "
    "Consortium (LIDC) and Image Database Resource Initiative (IDRI), Medical Physics 38:915-931, "
    "2011."
)
_INDETERMINATE = 3.0
_OFF_MAX = 0.1
"""Of the slice spacing, between an outline and its slice."""


class _Scan(NamedTuple):
    files: SeriesFiles
    reading: Reading


def load(
    directory: Path,
    *,
    task: Literal["segmentation", "malignancy"] = "segmentation",
    preparation: Preparation | None = None,
    share: float = 0.5,
    empty_every: int = 10,
    patch: int = 32,
    indeterminate: bool = False,
    at_most: int | None = None,
    only_present: bool = False,
    only_usable: bool = False,
    progress: Progress = nobody,
) -> Samples:
    """Return the samples of a folder.

    Parameters
    ----------
    task : str
        `segmentation`: slices, with the nodules of 3 mm and more on them, as at least `share` of
        the readers have drawn them. `malignancy`: the middle of each nodule, 1 where the mean of
        those who marked it is above 3, 0 where it is below.
    preparation : Preparation, optional
        Of volumes; 320 pixels of 1.25 mm if it is None.
    share : float
        0.5 is two of four. A nodule that fewer have marked is not there.
    empty_every : int
        Of slices without a nodule take every one, every second, ...
    patch : int
        Rows and columns around a nodule, on the network's grid, for `malignancy`.
    indeterminate : bool
        Take nodules with a mean of 3 too, as 0.5.
    at_most : int, optional
        So many scans, evenly over all: 35 slices of each at 320 pixels are 14 MB.
    only_present : bool
        Leave out annotations whose series was not fetched, in place of an error.
    only_usable : bool
        Leave out series that the node would refuse (slices missing or not equally spaced), in
        place of an error.
    progress : callable

    Raises
    ------
    DataUnusable
        If a file cannot be read, annotations and series do not belong together, or a series cannot
        be used; with each of them.
    """
    if task not in {"segmentation", "malignancy"}:
        raise DataUnusable(f"no task {task}", hint="segmentation or malignancy")
    wanted = preparation or ct_slices(320, 1.25)
    if wanted.volume is None:
        raise DataUnusable(
            "these are volumes: the preparation names no volume",
            hint="train a recipe whose manifest has `volume`",
        )
    scans = _scans(directory, only_present, progress)
    if at_most and len(scans) > at_most:
        scans = [scans[at] for at in np.linspace(0, len(scans) - 1, at_most).astype(int)]
    part_of: Callable[[_Scan], Part]
    if task == "segmentation":
        labels: tuple[str, ...] = ("background", "nodule")
        part_of = partial(_segmented, preparation=wanted, share=share, empty_every=empty_every)
    else:
        labels = ("malignant",)
        part_of = partial(_judged, preparation=wanted, patch=patch, indeterminate=indeterminate)
    named = [(f"series {scan.files.series}", scan) for scan in scans]
    parts, left_out = each(named, part_of, progress, only_usable=only_usable)
    source = f"LIDC-IDRI, {len(parts)} scans"
    if left_out:
        source += f"; {left_out} left out that the node would refuse"
    return gathered(parts, labels, _LICENCE, _ATTRIBUTION, source)


def _scans(directory: Path, only_present: bool, progress: Progress) -> list[_Scan]:
    """Return the series with their annotations."""
    readings: dict[str, Reading] = {}
    for file in sorted(directory.rglob("*.xml")):
        reading = read_annotations(file)
        if reading is None:
            continue
        uid = reading.series_instance_uid
        if uid in readings:
            raise DataUnusable(
                f"{reading.file} and {readings[uid].file} are about the same series",
                hint="keep one of them",
            )
        readings[uid] = reading
    if not readings:
        raise DataUnusable(
            f"no annotations (LidcReadMessage) in {directory}",
            hint="unpack LIDC-XML-only.zip of The Cancer Imaging Archive there",
        )
    series = {one.series: one for one in find_series(directory, progress)}
    missing = [reading.file for uid, reading in readings.items() if uid not in series]
    if missing and (not only_present or len(missing) == len(readings)):
        raise DataUnusable(
            f"{len(missing)} of {len(readings)} annotations have no series: {some(missing)}",
            hint="fetch these series; or take what is there: only_present",
        )
    return [_Scan(series[uid], readings[uid]) for uid in sorted(readings) if uid in series]


def _segmented(scan: _Scan, *, preparation: Preparation, share: float, empty_every: int) -> Part:
    volume, slice_of, lesions = _read(scan, preparation)
    drawn = np.zeros(volume.grid.shape, bool)
    for lesion in lesions:
        drawn |= consensus(lesion, volume.grid.shape, slice_of, share * scan.reading.readers)
    on_grid = volume.drawn(drawn.astype(np.uint8), 2)
    at = chosen(on_grid, empty_every)
    return Part(
        images=preparation.samples_of(volume.values, at),
        targets=on_grid[at],
        names=[f"{scan.files.series} slice {index}" for index in at],
        patient=scan.files.patient,
    )


def _judged(scan: _Scan, *, preparation: Preparation, patch: int, indeterminate: bool) -> Part:
    volume, slice_of, lesions = _read(scan, preparation)
    images, targets, names = [], [], []
    for number, lesion in enumerate(lesions, 1):
        mean = lesion.malignancy
        if np.isnan(mean) or (mean == _INDETERMINATE and not indeterminate):
            continue
        seen = consensus(lesion, volume.grid.shape, slice_of, 1)
        on_grid = volume.drawn(seen.astype(np.uint8), 2)
        if not on_grid.any():  # too small for its pixels: it is where it is nevertheless
            continue
        index = int(on_grid.sum(axis=(1, 2)).argmax())
        middle = np.rint(np.argwhere(on_grid[index]).mean(axis=0)).astype(int)
        whole = preparation.samples_of(volume.values, np.array([index]))
        images.append(_cut(whole[0], middle, patch))
        targets.append([0.5 if mean == _INDETERMINATE else float(mean > _INDETERMINATE)])
        names.append(f"{scan.files.series} nodule {number}")
    channels = preparation.channels
    return Part(
        images=np.array(images, np.float32).reshape(-1, patch, patch, channels),
        targets=np.array(targets, np.float32).reshape(-1, 1),
        names=names,
        patient=scan.files.patient,
    )


def _read(scan: _Scan, preparation: Preparation) -> tuple[PreparedVolume, SliceOf, list[Lesion]]:
    volume = prepare_files(list(scan.files.images.values()), preparation)
    at = {image.sop_instance_uid: index for index, image in enumerate(volume.images)}
    z_mm = np.array([float(image.header.ImagePositionPatient[2]) for image in volume.images])
    slice_of = partial(_slice_of, at, z_mm, volume.grid.spacing_mm[0])
    return volume, slice_of, lesions_of(scan.reading.nodules, volume.grid.spacing_mm, slice_of)


def _slice_of(
    at: Mapping[str, int], z_mm: NDArray[np.float64], spacing_mm: float, outline: Outline
) -> int:
    """Return the slice of an outline: by its UID, else by its place."""
    if outline.sop_instance_uid in at:
        return at[outline.sop_instance_uid]
    index = int(np.abs(z_mm - outline.z_mm).argmin())
    if abs(z_mm[index] - outline.z_mm) > _OFF_MAX * spacing_mm:
        raise StudyUnusable(
            f"an outline lies at {outline.z_mm:g} mm, where the series has no slice",
            hint="fetch all of its slices",
        )
    return index


def _cut(image: NDArray[np.float32], middle: NDArray[np.int64], patch: int) -> NDArray[np.float32]:
    """Return a square of an image, (rows, columns, channels); beyond its rim the rim goes on."""
    rows, columns = (
        np.clip(np.arange(patch) - patch // 2 + int(at), 0, size - 1)
        for at, size in zip(middle, image.shape[:2], strict=True)
    )
    return image[np.ix_(rows, columns)]
