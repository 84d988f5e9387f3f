"""Folders of studies: with a table of labels, or with what was drawn on them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray

from dicom_node.infer.asking import Networks
from dicom_node.infer.blocks import Take
from dicom_node.infer.engine_folders import load_manifest
from dicom_node.infer.images import prepared
from dicom_node.infer.path import CpuPath
from dicom_node.infer.series import load_source
from dicom_node.infer.volume import place
from dicom_node.infer.voxels import read_voxels
from engines.recipes.errors import DataUnusable
from engines.recipes.loaders import load
from engines.recipes.preparation import Preparation, ct_slices, of_manifest, xray
from engines.recipes.split import check_leaks
from tests.factories import make_ct_series, make_xray, write, write_series
from tests.unit.recipes.drawing import write_rtstruct, write_seg

ROOT = Path(__file__).parents[3]
SLICES = (10, 22)
"""Of the chest CT: from the diaphragm up, where both lungs are large."""


def small_ct(patient: str, **changes: object) -> list[pydicom.FileDataset]:
    """Return a series of six slices of 16 x 16 pixels of another patient."""
    pixels = np.full((6, 16, 16), -1000, np.int16)
    pixels[:, 4:12, 4:12] = np.arange(6)[:, None, None] * 10 + len(patient)
    uid = f"1.2.3.{sum(map(ord, patient))}"
    given = {"PatientID": patient, "SeriesInstanceUID": uid, "StudyInstanceUID": f"{uid}.0"}
    return make_ct_series(pixels=pixels, **(given | changes))  # type: ignore[arg-type]


def xrays(folder: Path, patients: Sequence[str]) -> list[str]:
    """Write an X-ray for each patient; return their SOP Instance UIDs."""
    uids = []
    for number, patient in enumerate(patients, 1):
        uid = f"1.2.4.{number}"
        pixels = np.random.default_rng(number).integers(0, 1024, (64, 96), np.uint16)
        image = make_xray(pixels, PatientID=patient, SeriesInstanceUID=uid)
        uids.append(str(image.SOPInstanceUID))
        write(image, folder / patient / f"{number}")
    return uids


def table(folder: Path, *lines: str) -> None:
    (folder / "labels.csv").write_text("\n".join(lines) + "\n", "utf-8")


@pytest.fixture(scope="module")
def chest(
    data_dir: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, NDArray[np.bool_]]:
    """Return a folder with twelve slices of the real chest CT, and its expert's lungs on them."""
    folder = tmp_path_factory.mktemp("chest")
    with np.load(data_dir / "ct-chest-lctsc-011" / "lung_reference.npz") as archive:
        lungs, uids = archive["lung"], [str(uid) for uid in archive["sop_instance_uid"]]
    wanted = uids[slice(*SLICES)]
    for file in sorted((data_dir / "ct-chest-lctsc-011").glob("*.dcm")):
        if pydicom.dcmread(file, stop_before_pixels=True).SOPInstanceUID in wanted:
            (folder / file.name).write_bytes(file.read_bytes())
    return folder, lungs[slice(*SLICES)].astype(bool)


def with_mask(folder: Path, into: Path, lungs: NDArray[np.bool_], kind: str) -> Path:
    """Write a folder again, with its lungs as SEG or RTSTRUCT among the images."""
    into.mkdir()
    for file in folder.iterdir():
        (into / file.name).write_bytes(file.read_bytes())
    sources = sorted(
        (pydicom.dcmread(file) for file in folder.iterdir()),
        key=lambda one: float(one.ImagePositionPatient[2]),
    )
    for one in sources:
        one.decompress()
        one.PatientName = ""  # highdicom warns of names without a caret
    do = write_seg if kind == "SEG" else write_rtstruct
    do(into / "mask.dcm", sources, {"Lung": lungs})
    return into


def blocks_of(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return which blocks of 4 x 4 pixels are drawn on by more than half."""
    rows, columns = mask.shape[1] // 4, mask.shape[2] // 4
    share = mask.reshape(len(mask), rows, 4, columns, 4).mean(axis=(2, 4))
    found: NDArray[np.bool_] = share > 0.5
    return found


@pytest.mark.parametrize("kind", ["SEG", "RTSTRUCT"])
def test_the_lungs_of_a_real_ct_come_back_from_either_kind_of_mask(
    kind: str, chest: tuple[Path, NDArray[np.bool_]], tmp_path: Path
) -> None:
    folder, lungs = chest
    preparation = of_manifest(load_manifest(ROOT / "engines" / "ct_lungs"))
    assert preparation.volume is not None
    own = replace(preparation.volume, spacing_mm=(None, None, None), size=(None, None, None))
    whole = with_mask(folder, tmp_path / kind, lungs, kind)
    samples = load("studies", whole, preparation=Preparation(preparation.intensity, volume=own))
    assert samples.labels == ("background", "lung")
    assert samples.images.shape == (12, 512, 512, 1)
    assert np.array_equal(samples.targets == 1, lungs)
    # air in the lungs, tissue around them: the pixels are those of the mask
    values = samples.images[..., 0]
    assert values[lungs].mean() < -600
    assert -50 < values[~lungs & (values > -200)].mean() < 50


def test_training_sees_the_slices_that_the_node_shows_the_network(
    chest: tuple[Path, NDArray[np.bool_]], tmp_path: Path
) -> None:
    folder, lungs = chest
    manifest = load_manifest(ROOT / "engines" / "ct_lungs")
    whole = with_mask(folder, tmp_path / "seg", lungs, "SEG")
    samples = load("studies", whole, preparation=of_manifest(manifest), labels=["lung"])

    volume = load_source(sorted(folder.iterdir())).volume()
    assert manifest.volume is not None
    placement = place(volume.grid, manifest.volume)
    voxels = read_voxels(volume.images, manifest.intensity.values, threads=1)
    shown = CpuPath(manifest, Networks((), None)).tensor(voxels, placement)
    assert np.array_equal(samples.images[..., 0], shown)
    # 512 pixels of 0.977 mm fill the network's 128: its pixels are blocks of 4 x 4
    assert np.mean((samples.targets == 1) != blocks_of(lungs)) < 1e-3
    check_leaks(replace(samples, split=np.full(len(samples), "train")))


def test_training_sees_the_images_that_the_node_shows_the_network(
    data_dir: Path, tmp_path: Path
) -> None:
    """MONOCHROME1, 15 bits and JPEG 2000 among them."""
    manifest = load_manifest(ROOT / "engines" / "cxr_pneumonia")
    lines = ["PatientID,ill"]
    shown = {}
    for name in ("cr-chest-philips-j2k-RG1.dcm", "dx-nih-00000003_000.dcm"):
        (tmp_path / name).write_bytes((data_dir / "xray" / name).read_bytes())
        (image,) = load_source([tmp_path / name]).images
        lines.append(f"{image.header.PatientID},yes")
        assert manifest.image is not None
        shown[image.sop_instance_uid] = prepared(image, manifest.image, manifest.intensity)
    table(tmp_path, *lines)
    samples = load("studies", tmp_path, preparation=of_manifest(manifest))
    assert set(samples.names) == set(shown)
    for name, image in zip(samples.names, samples.images, strict=True):
        assert np.array_equal(image[..., 0], shown[str(name)])


@pytest.mark.parametrize("key", ["SOPInstanceUID", "SeriesInstanceUID", "PatientID"])
def test_a_table_may_name_images_series_or_patients(key: str, tmp_path: Path) -> None:
    patients = ["ann", "bob", "eve"]
    uids = xrays(tmp_path, patients)
    names = {
        "SOPInstanceUID": uids,
        "SeriesInstanceUID": [f"1.2.4.{number}" for number in (1, 2, 3)],
        "PatientID": patients,
    }[key]
    answers = ("1,0.5,train", "no,,train", "yes,?,test")
    table(tmp_path, f"{key},ill,old,split", *map(",".join, zip(names, answers, strict=True)))
    samples = load("studies", tmp_path, preparation=xray(32))
    by_name = dict(zip(samples.names.tolist(), range(3), strict=True))
    order = [by_name[uid] for uid in uids]
    assert samples.labels == ("ill", "old")
    assert samples.patients[order].tolist() == patients
    assert np.array_equal(
        samples.targets[order], np.array([[1, 0.5], [0, np.nan], [1, np.nan]]), equal_nan=True
    )
    assert samples.split is not None
    assert samples.split[order].tolist() == ["train", "train", "test"]


def test_one_study_has_the_label_of_all_its_series(tmp_path: Path) -> None:
    uid = "1.2.9"
    for number in (1, 2):
        series = small_ct(f"p{number}", PatientID="p", StudyInstanceUID=uid)
        write_series(series, tmp_path / str(number))
    table(tmp_path, "StudyInstanceUID,ill", f"{uid},yes")
    samples = load("studies", tmp_path, preparation=ct_slices(None, None))
    assert samples.images.shape == (12, 16, 16, 1)
    assert samples.targets.tolist() == [[1]] * 12


def test_of_labelled_volumes_those_slices_are_taken_that_the_node_asks_about(
    tmp_path: Path,
) -> None:
    write_series(small_ct("p"), tmp_path / "p")
    table(tmp_path, "PatientID,ill", "p,no")
    own = ct_slices(None, None, slab_slices=3)
    assert own.volume is not None
    some = Preparation(own.intensity, volume=replace(own.volume, take=Take(part=(0.2, 0.8))))
    samples = load("studies", tmp_path, preparation=some)
    assert samples.names.tolist() == [f"1.2.3.112 slice {index}" for index in (1, 2, 3, 4)]
    # a slab: the slice between its neighbours
    assert samples.images[0, 8, 8].tolist() == [1, 11, 21]


def test_some_of_the_slices_without_anything_on_them_are_taken(tmp_path: Path) -> None:
    series = small_ct("p")
    write_series(series, tmp_path / "p")
    mask = np.zeros((6, 16, 16), bool)
    mask[5, 4:8, 4:8] = True
    write_seg(tmp_path / "seg.dcm", series, {"Thing": mask})
    samples = load("studies", tmp_path, preparation=ct_slices(None, None), empty_every=2)
    assert [name.split()[-1] for name in samples.names] == ["1", "3", "5"]
    assert samples.targets.any(axis=(1, 2)).tolist() == [False, False, True]


def test_a_seg_on_an_xray_follows_its_image_to_the_network(tmp_path: Path) -> None:
    xrays(tmp_path, ["ann"])
    (file,) = (tmp_path / "ann").iterdir()
    mask = np.zeros((1, 64, 96), bool)
    mask[0, :32, 16:48] = True  # the upper left quarter of the central square
    write_seg(tmp_path / "seg", [pydicom.dcmread(file)], {"Thing": mask})
    samples = load("studies", tmp_path, preparation=xray(32))
    expected = np.zeros((32, 32), np.uint8)
    expected[:16, :16] = 1
    assert samples.targets.tolist() == [expected.tolist()]


def test_series_of_another_kind_are_passed_over(tmp_path: Path) -> None:
    write_series(small_ct("p"), tmp_path / "p")
    xrays(tmp_path, ["ann"])
    table(tmp_path, "PatientID,ill", "p,no")
    accepts = {"Modality": "CT", "instance_count": ">= 5"}
    samples = load("studies", tmp_path, preparation=ct_slices(None, None), accepts=accepts)
    assert set(samples.patients) == {"p"}
    with pytest.raises(DataUnusable, match=r"no series in .* is of the kind"):
        load("studies", tmp_path, preparation=xray(32), accepts={"Modality": "MG"})
    with pytest.raises(DataUnusable, match="accepts: "):
        load("studies", tmp_path, preparation=xray(32), accepts={"Modalty": "MG"})


def test_series_without_a_row_and_rows_without_a_series_are_told(tmp_path: Path) -> None:
    xrays(tmp_path, ["ann", "bob"])
    table(tmp_path, "PatientID,ill", "ann,1")
    with pytest.raises(
        DataUnusable, match=r"1 series have no row in labels\.csv: 1\.2\.4\.2"
    ) as told:
        load("studies", tmp_path, preparation=xray(32))
    assert "only_labelled" in told.value.hint
    assert len(load("studies", tmp_path, preparation=xray(32), only_labelled=True)) == 1
    table(tmp_path, "PatientID,ill", "ann,1", "bob,0", "zoe,1")
    with pytest.raises(DataUnusable, match=r"1 rows .* about nothing in the folder; .* line 4"):
        load("studies", tmp_path, preparation=xray(32))


def test_series_without_a_mask_are_told(tmp_path: Path) -> None:
    write_series(small_ct("drawn"), tmp_path / "drawn")
    write_series(small_ct("bare"), tmp_path / "bare")
    mask = np.ones((6, 16, 16), bool)
    write_seg(tmp_path / "seg", small_ct("drawn"), {"Thing": mask})
    with pytest.raises(DataUnusable, match=r"1 of 2 series have neither a row .* nor a mask"):
        load("studies", tmp_path, preparation=ct_slices(None, None))
    samples = load("studies", tmp_path, preparation=ct_slices(None, None), only_labelled=True)
    assert set(samples.patients) == {"drawn"}


def test_what_the_node_would_refuse_is_refused_with_its_reason(tmp_path: Path) -> None:
    write_series(small_ct("whole"), tmp_path / "whole")
    gap = small_ct("gap")
    del gap[2]
    write_series(gap, tmp_path / "gap")
    table(tmp_path, "PatientID,ill", "whole,1", "gap,0")
    with pytest.raises(DataUnusable, match=r"1 of 2 cannot be used:\s+series .*slices missing"):
        load("studies", tmp_path, preparation=ct_slices(None, None))
    samples = load("studies", tmp_path, preparation=ct_slices(None, None), only_usable=True)
    assert set(samples.patients) == {"whole"}
    assert "1 left out that the node would refuse" in samples.source


def test_a_file_that_is_no_dicom_is_named_and_other_kinds_are_passed_over(tmp_path: Path) -> None:
    xrays(tmp_path, ["ann"])
    table(tmp_path, "PatientID,ill", "ann,1")
    (tmp_path / "notes.txt").write_text("read me")
    (tmp_path / ".hidden").write_text("no")
    assert len(load("studies", tmp_path, preparation=xray(32))) == 1
    (tmp_path / "broken").write_bytes(b"no DICOM at all")
    with pytest.raises(DataUnusable, match="1 files cannot be read as DICOM: broken"):
        load("studies", tmp_path, preparation=xray(32))


def test_an_image_of_nobody_is_refused(tmp_path: Path) -> None:
    (uid,) = xrays(tmp_path, ["ann"])
    (file,) = (tmp_path / "ann").iterdir()
    dataset = pydicom.dcmread(file)
    dataset.PatientID = ""
    dataset.save_as(file)
    table(tmp_path, "SOPInstanceUID,ill", f"{uid},1")
    with pytest.raises(DataUnusable, match="nobody says whose"):
        load("studies", tmp_path, preparation=xray(32))


def test_a_mask_of_a_series_that_is_not_there_is_told(tmp_path: Path) -> None:
    write_series(small_ct("p"), tmp_path / "p")
    write_seg(tmp_path / "seg", small_ct("elsewhere"), {"Thing": np.ones((6, 16, 16), bool)})
    with pytest.raises(DataUnusable, match=r"seg was drawn on series .* not in the folder"):
        load("studies", tmp_path, preparation=ct_slices(None, None))


def test_samples_of_several_sizes_are_told(tmp_path: Path) -> None:
    write_series(small_ct("p"), tmp_path / "p")
    wide = make_ct_series(
        3, PatientID="wide", SeriesInstanceUID="1.2.77", StudyInstanceUID="1.2.77.0"
    )
    write_series(wide, tmp_path / "wide")
    table(tmp_path, "PatientID,ill", "p,1", "wide,0")
    with pytest.raises(DataUnusable, match="samples of 2 sizes"):
        load("studies", tmp_path, preparation=ct_slices(None, None))
