"""A folder of DICOM studies, with a CSV of labels or with what was drawn on them.

    DIR/.../*            the studies, in folders of any kind
    DIR/labels.csv       labels (`table.read_table` says how), for classification
    DIR/.../*            SEG or RTSTRUCT objects among the images, for segmentation

What training sees is what the node will hand to the network: the same code reads and prepares it,
and refuses what it would refuse.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dicom_node.errors import StudyUnusable
from dicom_node.infer.answers import taken
from dicom_node.infer.blocks import VolumeInput
from dicom_node.infer.series import load_source, unfit
from engines.recipes.errors import DataUnusable
from engines.recipes.loaders.folder import SeriesFiles, conditions_of, find_series, is_accepted
from engines.recipes.loaders.masks import all_masks, instances_of, label_map, names_in
from engines.recipes.loaders.parts import Part, chosen, each, gathered
from engines.recipes.loaders.progress import Progress, nobody, some
from engines.recipes.loaders.table import Labelled, Table, read_table
from engines.recipes.loaders.volumes import prepare_files
from engines.recipes.preparation import CORES, Preparation, label_image_to_network
from engines.recipes.samples import Samples

TABLE = "labels.csv"
BACKGROUND = "background"


class _Item(NamedTuple):
    """What is read at a time: a series, or one image of it; and what the table says of it."""

    series: SeriesFiles
    files: list[Path]
    said: Labelled | None = None


def load(
    directory: Path,
    *,
    preparation: Preparation,
    table: Path | None = None,
    labels: Sequence[str] = (),
    accepts: Mapping[str, object] | None = None,
    only_labelled: bool = False,
    only_usable: bool = False,
    empty_every: int = 1,
    licence: str = "not said",
    attribution: str = "",
    progress: Progress = nobody,
) -> Samples:
    """Return the samples of a folder.

    Of single images each is a sample; of volumes each slice on the network's grid: with labels
    those that `take` of the preparation names, with masks all.

    Parameters
    ----------
    preparation : Preparation
        As the manifest will have it.
    table : pathlib.Path, optional
        `labels.csv` in the folder, if it is there. Without one masks are read.
    labels : sequence of str
        Columns of the table; of masks the names of segments or regions, whatever their case. All
        that there are if it is empty. A label map has them from 1, in this order; where two
        overlap, the later one counts.
    accepts : mapping, optional
        Which series are meant, as in a manifest: {"Modality": "CT"}.
    only_labelled : bool
        Leave out series without a row or a mask, in place of an error.
    only_usable : bool
        Leave out series or images that the node would refuse, in place of an error.
    empty_every : int
        Of slices on which nothing is drawn take every one, every second, ...
    licence, attribution : str
        Of these studies, for the card.

    Raises
    ------
    DataUnusable
        With every series that cannot be used, and why.
    """
    conditions = conditions_of(accepts)
    series = [
        one
        for one in find_series(directory, progress)
        if not conditions or is_accepted(load_source([*one.images.values()]).headers, conditions)
    ]
    if not series:
        raise DataUnusable(
            f"no series in {directory} is of the kind that `accepts` names",
            hint="name another folder, or change `accepts`",
        )
    if table is None and (directory / TABLE).is_file():
        table = directory / TABLE
    if table is not None:
        known = read_table(table, labels)
        names: tuple[str, ...] = known.labels
        items = _with_rows(series, known, preparation, only_labelled)
    else:
        drawn = tuple(labels) or tuple(
            sorted({name for one in series for file in one.masks for name in names_in(file)})
        )
        names = (BACKGROUND, *drawn)
        items = _with_masks(series, preparation, only_labelled)

    def part_of(item: _Item) -> Part:
        if preparation.volume:
            return _of_volume(item, preparation, preparation.volume, names, empty_every)
        return _of_image(item, preparation, names)

    threads = 1 if preparation.volume else CORES
    named = [(_named(item), item) for item in items]
    parts, left_out = each(named, part_of, progress, threads, only_usable)
    patients = {item.series.patient for item in items}
    source = f"{len({item.series.series for item in items})} series of {len(patients)} patients"
    if left_out:
        source += f"; {left_out} left out that the node would refuse"
    return gathered(parts, names, licence, attribution, source)


def _with_rows(
    series: Sequence[SeriesFiles], table: Table, preparation: Preparation, only_labelled: bool
) -> list[_Item]:
    """Return what a table has rows for."""
    by_image = table.key == "SOPInstanceUID"
    if preparation.volume and by_image:
        raise DataUnusable(
            f"{table.name} labels single images, and this network sees volumes",
            hint="label series: SeriesInstanceUID",
        )
    items, used, without = [], set(), []
    for one in series:
        whole = {"SeriesInstanceUID": one.series, "StudyInstanceUID": one.study}
        about = whole.get(table.key, one.patient)
        groups = (
            [(about, list(one.images.values()))]
            if preparation.volume
            else [(uid if by_image else about, [file]) for uid, file in one.images.items()]
        )
        rows = [(key, files) for key, files in groups if key in table.rows]
        used |= {key for key, _ in rows}
        items += [_Item(one, files, table.rows[key]) for key, files in rows]
        if len(rows) < len(groups):
            without.append(one.series)
    if nowhere := [key for key in table.rows if key not in used]:
        raise DataUnusable(
            f"{len(nowhere)} rows of {table.name} are about nothing in the folder; the first in "
            f"line {table.rows[nowhere[0]].line}",
            hint="fetch these studies, or take the rows out",
        )
    if without and not only_labelled:
        raise DataUnusable(
            f"{len(without)} series have no row in {table.name}: {some(without)}",
            hint="add their rows, or leave these series out: only_labelled",
        )
    return items


def _with_masks(
    series: Sequence[SeriesFiles], preparation: Preparation, only_labelled: bool
) -> list[_Item]:
    """Return what somebody has drawn on."""
    without = [one.series for one in series if not one.masks]
    if without and (not only_labelled or len(without) == len(series)):
        raise DataUnusable(
            f"{len(without)} of {len(series)} series have neither a row in {TABLE} nor a mask: "
            f"{some(without)}",
            hint="have somebody draw on them, or leave them out: only_labelled",
        )
    drawn = [one for one in series if one.masks]
    if preparation.volume:
        return [_Item(one, list(one.images.values())) for one in drawn]
    looked_at = [(one, {uid for file in one.masks for uid in instances_of(file)}) for one in drawn]
    return [
        _Item(one, [file])
        for one, uids in looked_at
        for uid, file in one.images.items()
        if uid in uids
    ]


def _named(item: _Item) -> str:
    if len(item.files) == 1:
        return f"{item.files[0].name} of series {item.series.series}"
    return f"series {item.series.series}"


def _of_volume(
    item: _Item,
    preparation: Preparation,
    wanted: VolumeInput,
    names: tuple[str, ...],
    empty_every: int,
) -> Part:
    volume = prepare_files(item.files, preparation)
    targets: NDArray[np.float32] | NDArray[np.uint8]
    if item.said is not None:
        at = np.array(taken(len(volume.values), wanted.take))
        targets = np.tile(np.array(item.said.values, np.float32), (len(at), 1))
    else:
        masks = all_masks(item.series.masks, volume.images, volume.grid, names[1:])
        drawn = label_map(masks, names[1:], volume.grid.shape)
        on_grid = volume.drawn(drawn, len(names))
        at = chosen(on_grid, empty_every)
        targets = on_grid[at]
    return Part(
        images=preparation.samples_of(volume.values, at),
        targets=targets,
        names=[f"{item.series.series} slice {index}" for index in at],
        patient=item.series.patient,
        split=item.said.part if item.said else "",
    )


def _of_image(item: _Item, preparation: Preparation, names: tuple[str, ...]) -> Part:
    (image,) = load_source(item.files).images
    if reason := unfit(image.header):
        raise StudyUnusable(reason)
    values = preparation.of_image(image.values(preparation.intensity.values))
    targets: NDArray[np.float32] | NDArray[np.uint8]
    if item.said is not None:
        targets = np.array(item.said.values, np.float32)
    else:
        masks = all_masks(item.series.masks, [image], None, names[1:])
        shape = (1, int(image.header.Rows), int(image.header.Columns))
        drawn = label_map(masks, names[1:], shape)[0]
        targets = label_image_to_network(drawn, preparation, len(names))
    return Part(
        images=values[None, :, :, None],
        targets=targets[None],
        names=[image.sop_instance_uid],
        patient=item.series.patient,
        split=item.said.part if item.said else "",
    )
