"""What was drawn on a series is read back where it was drawn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from highdicom.seg import SegmentationTypeValues
from numpy.typing import NDArray
from pydicom.dataset import FileDataset

from dicom_node.infer.series import SourceVolume, load_source
from engines.recipes.errors import DataUnusable
from engines.recipes.loaders.masks import all_masks, label_map, names_in, read_masks, series_of
from tests.factories import CORONAL, make_ct_series, write_series
from tests.unit.recipes.drawing import (
    add_roi,
    bare_rtstruct,
    contour,
    to_mm,
    write_rtstruct,
    write_seg,
)

SHAPE = (4, 24, 32)


def series(**changes: object) -> list[FileDataset]:
    pixels = np.zeros(SHAPE, np.int16)
    pixels[:, 0, 0] = range(4)
    return make_ct_series(pixels=pixels, **{"spacing_mm": (3.0, 0.7, 0.9), **changes})  # type: ignore[arg-type]


def drawn() -> dict[str, NDArray[np.bool_]]:
    """Return a ring on two slices, and a blob beside it on another."""
    row, column = np.mgrid[: SHAPE[1], : SHAPE[2]]
    distance = np.hypot(row - 11, column - 12)
    ring, blob = np.zeros(SHAPE, bool), np.zeros(SHAPE, bool)
    ring[1:3] = (distance < 8) & (distance > 3)
    blob[3, 4:9, 20:31] = True
    return {"Ring": ring, "Blob": blob}


def source_of(instances: list[FileDataset], folder: Path) -> SourceVolume:
    return load_source(write_series(instances, folder)).volume()


@pytest.mark.parametrize("kind", list(SegmentationTypeValues))
def test_a_seg_of_every_encoding_is_read_exactly(
    kind: SegmentationTypeValues, tmp_path: Path
) -> None:
    instances = series()
    source = source_of(instances, tmp_path / "ct")
    file = write_seg(tmp_path / "seg.dcm", instances, drawn(), kind)
    masks = read_masks(file, source.images, source.grid, ["ring", "BLOB"])
    for name, mask in drawn().items():
        assert np.array_equal(masks[name.casefold()], mask)


@pytest.mark.parametrize("turned", [False, True])
def test_an_rtstruct_on_pixel_edges_is_read_exactly(turned: bool, tmp_path: Path) -> None:
    instances = series(orientation=CORONAL) if turned else series()
    source = source_of(instances, tmp_path / "ct")
    file = write_rtstruct(tmp_path / "rt.dcm", instances, drawn())
    masks = read_masks(file, source.images, source.grid, [])
    for name, mask in drawn().items():
        assert np.array_equal(masks[name.casefold()], mask)


def test_files_arrive_in_any_order_and_the_mask_stays_in_its_slice(tmp_path: Path) -> None:
    instances = series()
    source = source_of(instances[::-1], tmp_path / "ct")
    file = write_seg(tmp_path / "seg.dcm", instances, drawn())
    masks = read_masks(file, source.images, source.grid, [])
    assert np.array_equal(masks["ring"], drawn()["Ring"])


def test_what_is_not_wanted_is_not_read(tmp_path: Path) -> None:
    instances = series()
    source = source_of(instances, tmp_path / "ct")
    seg = write_seg(tmp_path / "seg.dcm", instances, drawn())
    assert read_masks(seg, source.images, source.grid, ["blob"]).keys() == {"blob"}
    assert sorted(names_in(seg)) == ["blob", "ring"]
    assert sorted(names_in(write_rtstruct(tmp_path / "rt.dcm", instances, drawn()))) == [
        "blob",
        "ring",
    ]


def test_a_contour_that_stands_twice_is_no_hole_in_itself(tmp_path: Path) -> None:
    instances = series()
    source = source_of(instances, tmp_path / "ct")
    square = to_mm(np.array([[2.5, 2.5], [8.5, 2.5], [8.5, 8.5], [2.5, 8.5]]), instances[1])
    dataset = bare_rtstruct(instances[0])
    add_roi(dataset, 1, "square", [contour(square), contour(square), contour(square[:2], "POINT")])
    dataset.save_as(tmp_path / "rt.dcm", enforce_file_format=True)
    mask = read_masks(tmp_path / "rt.dcm", source.images, source.grid, [])["square"]
    assert mask.sum() == 36
    assert mask[1, 3:9, 3:9].all()


def test_a_contour_between_slices_is_refused(tmp_path: Path) -> None:
    instances = series()
    source = source_of(instances, tmp_path / "ct")
    square = to_mm(np.array([[2.0, 2.0], [8.0, 2.0], [8.0, 8.0]]), instances[1])
    for offset, told in (((0, 0, 1.5), "does not lie in a slice"), ((0, 0, 60.0), "lies beyond")):
        dataset = bare_rtstruct(instances[0])
        add_roi(dataset, 1, "square", [contour(square + offset)])
        dataset.save_as(tmp_path / "rt.dcm", enforce_file_format=True)
        with pytest.raises(DataUnusable, match=told):
            read_masks(tmp_path / "rt.dcm", source.images, source.grid, [])


@pytest.mark.parametrize(
    "other",
    [
        {"origin_mm": (-32.4, -32.0, -100.0)},  # half a pixel beside
        {"spacing_mm": (3.0, 0.7, 0.95)},
        {"spacing_mm": (2.0, 0.7, 0.9)},
        {"orientation": (-1.0, 0.0, 0.0, 0.0, 1.0, 0.0)},
    ],
)
def test_a_seg_on_another_grid_is_refused(other: dict[str, object], tmp_path: Path) -> None:
    source = source_of(series(), tmp_path / "ct")
    file = write_seg(tmp_path / "seg.dcm", series(**other), drawn())
    with pytest.raises(DataUnusable, match="another grid"):
        read_masks(file, source.images, source.grid, [])


def test_the_same_thing_drawn_twice_is_refused(tmp_path: Path) -> None:
    instances = series()
    source = source_of(instances, tmp_path / "ct")
    seg = write_seg(tmp_path / "seg.dcm", instances, drawn())
    rtstruct = write_rtstruct(tmp_path / "rt.dcm", instances, {"RING": drawn()["Ring"]})
    with pytest.raises(DataUnusable, match=r"ring is drawn in rt\.dcm and in another file"):
        all_masks([seg, rtstruct], source.images, source.grid, [])


def test_both_kinds_say_on_which_series_they_were_drawn(tmp_path: Path) -> None:
    instances = series()
    seg = write_seg(tmp_path / "seg.dcm", instances, drawn())
    rtstruct = write_rtstruct(tmp_path / "rt.dcm", instances, drawn())
    for file in (seg, rtstruct):
        (header,) = load_source([file]).headers
        assert series_of(header) == {str(instances[0].SeriesInstanceUID)}


def test_where_two_overlap_the_later_label_counts() -> None:
    one, other = np.zeros((1, 2, 2), bool), np.zeros((1, 2, 2), bool)
    one[0, 0], other[0, :, 0] = True, True
    masks = {"one": one, "other": other}
    assert label_map(masks, ["One", "Other"], (1, 2, 2)).tolist() == [[[2, 1], [2, 0]]]
    assert label_map(masks, ["Other", "One"], (1, 2, 2)).tolist() == [[[2, 2], [1, 0]]]


def test_a_broken_mask_is_named(tmp_path: Path) -> None:
    instances = series()
    source = source_of(instances, tmp_path / "ct")
    file = write_seg(tmp_path / "seg.dcm", instances, drawn())
    file.write_bytes(file.read_bytes()[:-400])
    with pytest.raises(DataUnusable, match=r"seg\.dcm"):
        read_masks(file, source.images, source.grid, [])
