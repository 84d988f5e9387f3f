"""NIH ChestX-ray14: true rows of its table, and its pixels as they were published."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from io import BytesIO
from pathlib import Path

import numpy as np
import pydicom
import pytest
from PIL import Image

from dicom_node.infer.engine_folders import load_manifest
from engines.recipes.errors import DataUnusable
from engines.recipes.loaders import load
from engines.recipes.preparation import of_manifest, xray
from engines.recipes.split import check_leaks

ROOT = Path(__file__).parents[3]
EXCERPT = ROOT / "engines" / "recipes" / "data" / "nih_chestxray14_1000_64.npz"

OLD = (
    "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
    "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y],"
)
NEW = OLD.replace("Patient Gender", "Patient Sex")
ROWS = (
    "00000001_000.png,Cardiomegaly,0,1,57,M,PA,2682,2749,0.143,0.143,",
    "00000001_002.png,Cardiomegaly|Effusion,2,1,58,M,PA,2500,2048,0.168,0.168,",
    "00000002_000.png,No Finding,0,2,80,M,PA,2500,2048,0.171,0.171,",
    "00000003_000.png,Hernia,0,3,74,F,PA,2500,2048,0.168,0.168,",
    "00000054_004.png,No Finding,4,54,49,M,AP,2500,2048,0.168,0.168,",
)
"""Of the images that lie in tests/data/xray."""


def write_set(
    folder: Path,
    data_dir: Path,
    rows: Sequence[str] = ROWS,
    *,
    header: str = NEW,
    table: str = "Data_Entry_2017_v2020.csv",
) -> Path:
    """Write a folder as the NIH publishes it, with the images that are there."""
    (folder / table).write_text("\n".join([header, *rows]) + "\n", "utf-8")
    for index, row in enumerate(rows):
        name = row.split(",")[0]
        images = folder / f"images_{index % 2 + 1:03}" / "images"
        images.mkdir(parents=True, exist_ok=True)
        dicom = data_dir / "xray" / f"dx-nih-{Path(name).stem}.dcm"
        if dicom.exists():
            (images / name).write_bytes(png_of(dicom))
    return folder


@cache
def png_of(dicom: Path) -> bytes:
    """Return the pixels of a DICOM file as they were published."""
    written = BytesIO()
    Image.fromarray(pydicom.dcmread(dicom).pixel_array).save(written, "PNG", compress_level=1)
    return written.getvalue()


def test_labels_patients_and_views_are_those_of_the_table(tmp_path: Path, data_dir: Path) -> None:
    samples = load("nih", write_set(tmp_path, data_dir), labels=("Cardiomegaly", "Effusion"))
    assert samples.names.tolist() == [row.split(",")[0] for row in ROWS]
    assert samples.targets.tolist() == [[1, 0], [1, 1], [0, 0], [0, 0], [0, 0]]
    assert samples.patients.tolist() == [
        *("00000001", "00000001", "00000002", "00000003"),
        "00000054",
    ]
    check_leaks(samples)
    only = load("nih", tmp_path, labels=("No Finding",), views=("AP",), fractions=(1, 0, 0))
    assert only.targets.tolist() == [[1]]


@pytest.mark.parametrize("header", [OLD, NEW])
def test_both_spellings_of_the_table_are_read(header: str, tmp_path: Path, data_dir: Path) -> None:
    rows = [row.replace(",1,57,", ",00000001,057Y,") for row in ROWS]
    folder = write_set(tmp_path, data_dir, rows, header=header, table="Data_Entry_2017.csv")
    assert load("nih", folder).patients[0] == "00000001"


def test_training_sees_what_the_node_shows_the_network(tmp_path: Path, data_dir: Path) -> None:
    """The published PNG, and the same pixels as DICOM, to the bit."""
    preparation = of_manifest(load_manifest(ROOT / "engines" / "cxr_quality"))
    published = load("nih", write_set(tmp_path, data_dir), preparation=preparation)
    folder = tmp_path / "dicom"
    folder.mkdir()
    table = ["SOPInstanceUID,effusion"]
    for name in published.names:
        file = data_dir / "xray" / f"dx-nih-{Path(str(name)).stem}.dcm"
        (folder / file.name).write_bytes(file.read_bytes())
        table.append(f"{pydicom.dcmread(file, stop_before_pixels=True).SOPInstanceUID},no")
    (folder / "labels.csv").write_text("\n".join(table))
    received = load("studies", folder, preparation=preparation)
    by_patient = np.argsort(received.patients, kind="stable")
    for image in published.images:
        assert any(np.array_equal(image, received.images[index]) for index in by_patient)
    assert published.images.shape == received.images.shape == (5, 64, 64, 1)


def test_a_coloured_png_of_grey_pixels_is_read_as_grey(tmp_path: Path, data_dir: Path) -> None:
    folder = write_set(tmp_path, data_dir)
    plain = load("nih", folder).images
    (file,) = folder.rglob("00000003_000.png")
    Image.open(file).convert("RGBA").save(file)
    assert np.array_equal(load("nih", folder).images, plain)


def test_the_official_test_split_is_kept_and_the_rest_split_by_patient(
    tmp_path: Path, data_dir: Path
) -> None:
    folder = write_set(tmp_path, data_dir)
    names = [row.split(",")[0] for row in ROWS]
    (folder / "train_val_list.txt").write_text("\n".join(names[:4]))
    (folder / "test_list.txt").write_text(names[4] + "\n")
    samples = load("nih", folder)
    assert samples.part("test").names.tolist() == [names[4]]
    assert samples.split is not None
    assert set(samples.split[:4]) == {"train", "validation"}
    assert samples.split[0] == samples.split[1]
    assert samples.source.endswith("official test split")
    (folder / "test_list.txt").write_text("")
    with pytest.raises(DataUnusable, match=f"1 images stand in neither list: {names[4]}"):
        load("nih", folder)
    (folder / "test_list.txt").unlink()
    with pytest.raises(DataUnusable, match="only one of"):
        load("nih", folder)


def test_what_is_cached_is_taken_and_another_preparation_is_not(
    tmp_path: Path, data_dir: Path
) -> None:
    folder = write_set(tmp_path, data_dir)
    told: list[tuple[int, int]] = []
    first = load("nih", folder, cache=True, progress=lambda *done: told.append(done))
    assert told == [(index, 5) for index in range(1, 6)]
    again = load("nih", folder, cache=True, progress=lambda *done: told.append(done))
    assert len(told) == 5
    assert np.array_equal(first.images, again.images)
    other = load("nih", folder, cache=True, preparation=xray(32))
    assert other.images.shape == (5, 32, 32, 1)
    assert len(list(folder.glob("prepared_*.npy"))) == 2


def test_without_being_asked_nothing_is_written(tmp_path: Path, data_dir: Path) -> None:
    folder = write_set(tmp_path, data_dir)
    before = sorted(folder.rglob("*"))
    load("nih", folder)
    assert sorted(folder.rglob("*")) == before


def test_images_that_were_not_fetched_are_told_or_left_out(tmp_path: Path, data_dir: Path) -> None:
    missing = "00000013_011.png,Emphysema,11,13,60,M,AP,3056,2544,0.139,0.139,"
    folder = write_set(tmp_path, data_dir, [*ROWS, missing])
    with pytest.raises(
        DataUnusable, match=r"1 of 6 images are not in .*: 00000013_011\.png"
    ) as told:
        load("nih", folder)
    assert "only_present" in told.value.hint
    assert len(load("nih", folder, only_present=True)) == 5


@pytest.mark.parametrize(
    ("header", "row", "told"),
    [
        (NEW.replace("View Position", "View"), ROWS[0], "no column View Position"),
        (
            NEW,
            ROWS[0].replace("Cardiomegaly", "Large heart"),
            "nobody knows the finding Large heart",
        ),
        (NEW, ROWS[0].replace(",1,57", ",one,57"), r"csv:2: .*Patient ID 'one'"),
    ],
)
def test_a_table_that_is_not_the_published_one_is_told(
    header: str, row: str, told: str, tmp_path: Path, data_dir: Path
) -> None:
    with pytest.raises(DataUnusable, match=told):
        load("nih", write_set(tmp_path, data_dir, [row, *ROWS[1:]], header=header))


def test_a_folder_without_a_table_and_a_label_without_a_column_are_told(tmp_path: Path) -> None:
    with pytest.raises(DataUnusable, match="neither Data_Entry_2017_v2020"):
        load("nih", tmp_path)
    with pytest.raises(DataUnusable, match="no label Cold"):
        load("nih", tmp_path, labels=("Cold",))


def test_a_broken_image_is_named(tmp_path: Path, data_dir: Path) -> None:
    folder = write_set(tmp_path, data_dir)
    (file,) = folder.rglob("00000003_000.png")
    file.write_bytes(file.read_bytes()[:3000])
    with pytest.raises(DataUnusable, match=r"00000003_000\.png cannot be read"):
        load("nih", folder)


def test_the_excerpt_is_split_by_patient_with_its_true_labels() -> None:
    samples = load("nih", EXCERPT)
    assert samples.images.shape == (1000, 64, 64, 1)
    assert samples.labels[1] == "Cardiomegaly"
    with np.load(EXCERPT) as archive:
        written = [str(one).split("|") for one in archive["finding_labels"]]
    for label, column in zip(samples.labels, samples.targets.T, strict=True):
        assert column.tolist() == [float(label in one) for one in written]
    assert len(samples.part("train")) == 700
    check_leaks(samples)
