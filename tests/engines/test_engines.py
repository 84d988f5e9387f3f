"""The engines that ship, on real studies: overlap, volumes, probabilities, refusals."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from hashlib import sha256
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code as DictionaryCode

from dicom_node.errors import StudyUnusable
from dicom_node.finding import Finding, QualityGrade
from dicom_node.infer.engine import Engine
from dicom_node.infer.engine_folders import list_engines
from dicom_node.infer.engine_loading import load_engine
from dicom_node.infer.manifest import Manifest
from tests.engines.brain import whole_brain
from tests.factories import make_ct_series, make_enhanced, write, write_series

ENGINES = Path(__file__).parents[2] / "engines"
NAMES = ("ct_lungs", "ct_quality", "cxr_pneumonia", "cxr_quality", "mr_brain")
XRAYS = {  # by file: pneumonia, and the largest fault
    "cr-chest-fuji-mono1-implicit-noheader": (0.00, 0.00),
    "cr-chest-philips-j2k-RG1.dcm": (0.18, 0.00),
    "dx-nih-00000001_000.dcm": (0.32, 0.00),
    "dx-nih-00000001_002.dcm": (0.73, 0.00),
    "dx-nih-00000002_000.dcm": (0.00, 0.00),
    "dx-nih-00000003_000.dcm": (0.00, 0.00),
    "dx-nih-00000054_004.dcm": (0.80, 0.00),
}


TAKEN_FOR_AP = ("cr-chest-fuji-mono1-implicit-noheader",)
"""Of which the engine errs: the card says so."""


@pytest.fixture(scope="module")
def engine() -> Callable[[str], Engine]:
    """Return a function that loads an engine once."""
    return cache(lambda name: load_engine(ENGINES / name, threads=1))


@pytest.fixture(scope="module")
def lungs(engine: Callable[[str], Engine]) -> Finding:
    data = Path(__file__).parents[1] / "data" / "ct-chest-lctsc-011"
    return engine("ct_lungs").run(sorted(data.glob("*.dcm")))[0]


def test_all_engines_are_listed() -> None:
    assert tuple(list_engines(ENGINES)) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_an_engine_gives_the_answers_of_its_test_vector(
    name: str, engine: Callable[[str], Engine]
) -> None:
    engine(name).verify()


@pytest.mark.parametrize("name", NAMES)
def test_a_folder_has_its_card_its_licence_and_a_small_test_vector(name: str) -> None:
    folder = ENGINES / name
    assert "medical device" in (folder / "card.md").read_text("utf-8")
    assert (folder / "LICENSE").read_text("utf-8").strip()
    assert (folder / "test_vector.npz").stat().st_size < 300_000
    manifest = list_engines(ENGINES)[name]
    for file, digest in manifest.model_files.items():
        assert sha256((folder / file).read_bytes()).hexdigest() == digest


def coded(manifests: Mapping[str, Manifest]) -> list[DictionaryCode]:
    return [
        DictionaryCode(code.value, code.scheme, code.meaning)
        for manifest in manifests.values()
        for segment in manifest.segments
        for code in (segment.category, segment.type, segment.modifier)
        if code is not None
    ]


def test_every_code_of_a_segment_stands_in_the_standard() -> None:
    """pydicom's dictionary is made from PS3.16; the meanings there are words for the same code."""
    known = {
        (code.scheme_designator, code.value)
        for group in (codes.cid7150, codes.cid7151, codes.cid7140, codes.cid244)
        for code in group.concepts.values()
    }
    for code in coded(list_engines(ENGINES)):
        assert (code.scheme_designator, code.value) in known, code


# ---------------------------------------------------------------- ct_lungs


def test_the_lungs_overlap_with_the_experts(lungs: Finding, data_dir: Path) -> None:
    with np.load(data_dir / "ct-chest-lctsc-011" / "lung_reference.npz") as reference:
        assert tuple(reference["sop_instance_uid"]) == lungs.sop_instance_uids
        expected = reference["lung"] > 0
    assert lungs.mask is not None
    found = np.asarray(lungs.mask) > 0
    dice = 2 * np.count_nonzero(found & expected) / (found.sum() + expected.sum())
    assert dice >= 0.97


def test_right_and_left_lung_have_their_volumes_and_sides(lungs: Finding) -> None:
    right, left = lungs.segments
    assert (right.label, left.label) == ("Right lung", "Left lung")
    assert right.volume_ml == pytest.approx(2072, abs=15)
    assert left.volume_ml == pytest.approx(1955, abs=15)
    assert lungs.warnings == ()
    assert lungs.mask is not None
    # Rows of this series run to the patient's left, and so do its columns' indices.
    columns = [np.nonzero(np.asarray(lungs.mask) == number)[2].mean() for number in (1, 2)]
    assert columns[0] < 256 < columns[1]


def test_the_same_series_gives_the_same_mask_on_two_threads(lungs: Finding, data_dir: Path) -> None:
    paths = sorted((data_dir / "ct-chest-lctsc-011").glob("*.dcm"), reverse=True)
    again, _ = load_engine(ENGINES / "ct_lungs", threads=2).run(paths)
    assert again.sop_instance_uids == lungs.sop_instance_uids
    assert again.mask is not None
    assert lungs.mask is not None
    assert np.array_equal(again.mask, lungs.mask)


def test_an_enhanced_ct_of_the_same_slices_has_the_same_lungs(
    engine: Callable[[str], Engine], lungs: Finding, data_dir: Path, tmp_path: Path
) -> None:
    slices = [
        pydicom.dcmread(file) for file in sorted((data_dir / "ct-chest-lctsc-011").glob("*.dcm"))
    ]
    slices.sort(key=lambda one: one.SOPInstanceUID)  # in no order of place
    for one in slices:
        one.decompress(generate_instance_uid=False)
    file = write(make_enhanced(slices), tmp_path / "enhanced.dcm")
    finding, frames = engine("ct_lungs").run([file])
    assert finding.mask is not None
    assert lungs.mask is not None
    assert np.array_equal(finding.mask, lungs.mask)
    numbers = {one.SOPInstanceUID: number for number, one in enumerate(slices, 1)}
    expected = [numbers[uid] for uid in lungs.sop_instance_uids]
    assert [frame.ReferencedFrameNumber for frame in frames] == expected
    assert set(finding.sop_instance_uids) == {frames[0].SOPInstanceUID}


def test_an_abdomen_without_lungs_is_an_honest_answer(
    engine: Callable[[str], Engine], data_dir: Path
) -> None:
    paths = sorted((data_dir / "ct-abdomen-totalsegmentator").glob("*.dcm"))
    finding, _ = engine("ct_lungs").run(paths)
    assert finding.summary == "nothing found: right lung 0 ml, left lung 0 ml"
    assert finding.warnings == ("Right lung: not found", "Left lung: not found")
    assert finding.mask is not None
    assert not np.any(finding.mask)


@pytest.mark.parametrize("left_out", [3, 24, 47])
def test_a_missing_slice_is_refused(
    left_out: int, engine: Callable[[str], Engine], data_dir: Path
) -> None:
    paths = sorted((data_dir / "ct-chest-lctsc-011").glob("*.dcm"))
    with pytest.raises(StudyUnusable, match="slices missing between"):
        engine("ct_lungs").run(paths[:left_out] + paths[left_out + 1 :])


def test_two_patients_are_never_one_volume(engine: Callable[[str], Engine], data_dir: Path) -> None:
    chest = sorted((data_dir / "ct-chest-lctsc-011").glob("*.dcm"))
    abdomen = sorted((data_dir / "ct-abdomen-totalsegmentator").glob("*.dcm"))
    with pytest.raises(StudyUnusable, match="2 patients in one series"):
        engine("ct_lungs").run(chest + abdomen)


def test_few_slices_are_refused(engine: Callable[[str], Engine], tmp_path: Path) -> None:
    with pytest.raises(StudyUnusable, match="instance_count is 5, not >= 10"):
        engine("ct_lungs").run(write_series(make_ct_series(5), tmp_path))


# ---------------------------------------------------------------- cxr_pneumonia, cxr_quality


@pytest.mark.parametrize("name", XRAYS)
def test_pneumonia_has_the_probability_of_the_card(
    name: str, engine: Callable[[str], Engine], data_dir: Path
) -> None:
    finding, _ = engine("cxr_pneumonia").run([data_dir / "xray" / name])
    (found,) = finding.classifications
    assert found.probability == pytest.approx(XRAYS[name][0], abs=0.01)
    assert found.code.value == "233604007"
    presence = "present" if found.present else "absent"
    assert finding.summary == f"pneumonia {found.probability:.2f} ({presence})"


@pytest.mark.parametrize("name", XRAYS)
def test_real_images_are_of_diagnostic_quality(
    name: str, engine: Callable[[str], Engine], data_dir: Path
) -> None:
    finding, _ = engine("cxr_quality").run([data_dir / "xray" / name])
    (quality,) = finding.qualities
    assert quality.grade is QualityGrade.DIAGNOSTIC
    assert max(f.probability for f in quality.faults) == pytest.approx(XRAYS[name][1], abs=0.01)
    view = "AP" if name in TAKEN_FOR_AP else "PA"
    assert quality.notes[0].startswith(f"{view} view")
    assert finding.summary == "quality diagnostic"


def test_a_forgotten_inversion_is_found(
    engine: Callable[[str], Engine], data_dir: Path, tmp_path: Path
) -> None:
    """A MONOCHROME1 image whose header says MONOCHROME2."""
    from pydicom import dcmread

    image = dcmread(data_dir / "xray" / "cr-chest-philips-j2k-RG1.dcm")
    image.PhotometricInterpretation = "MONOCHROME2"
    image.save_as(tmp_path / "inverted.dcm")
    finding, _ = engine("cxr_quality").run([tmp_path / "inverted.dcm"])
    assert finding.qualities[0].grade is QualityGrade.NON_DIAGNOSTIC
    assert finding.summary.startswith("quality non-diagnostic: inverted 0.9")


@pytest.mark.parametrize("folder", ["ct-chest-lctsc-011", "ct-abdomen-totalsegmentator"])
def test_a_ct_whose_intercept_was_lost_is_not_diagnostic(
    folder: str, engine: Callable[[str], Engine], data_dir: Path, tmp_path: Path
) -> None:
    from pydicom import dcmread

    files = sorted((data_dir / folder).glob("*.dcm"))
    finding, _ = engine("ct_quality").run(files)
    assert finding.summary == "quality diagnostic"
    for number, file in enumerate(files):
        image = dcmread(file)
        image.RescaleIntercept = float(image.RescaleIntercept) + 1024
        image.save_as(tmp_path / f"{number:03}.dcm")
    finding, _ = engine("ct_quality").run(sorted(tmp_path.iterdir()))
    assert finding.summary.startswith("quality non-diagnostic: wrong window 1.00")


@pytest.mark.parametrize("name", ["cxr_pneumonia", "cxr_quality"])
@pytest.mark.parametrize(
    ("file", "reasons"),
    [
        ("xray/cr-extremity-fuji-j2k-RG3.dcm", ["BodyPartExamined is EXTREMITY, not CHEST"]),
        (
            "xray/dx-thorax-canine-fuji.dcm",
            [
                "BodyPartExamined is THORAX, not CHEST",
                "ViewPosition is absent, not PA or AP",
            ],
        ),
        ("ct-chest-lctsc-011/001.dcm", ["Modality is CT, not CR or DX"]),
    ],
)
def test_what_is_no_frontal_chest_is_refused(
    name: str, file: str, reasons: list[str], engine: Callable[[str], Engine], data_dir: Path
) -> None:
    with pytest.raises(StudyUnusable) as refusal:
        engine(name).run([data_dir / file])
    for reason in reasons:
        assert reason in refusal.value.message


# ---------------------------------------------------------------- mr_brain


def test_a_chest_is_no_brain(engine: Callable[[str], Engine], data_dir: Path) -> None:
    with pytest.raises(StudyUnusable, match="Modality is CT, not MR"):
        engine("mr_brain").run(sorted((data_dir / "ct-chest-lctsc-011").glob("*.dcm")))


@pytest.mark.slow
def test_brain_structures_have_their_volumes(tmp_path_factory: pytest.TempPathFactory) -> None:
    finding, headers = whole_brain(tmp_path_factory)
    assert len(headers) == 128
    assert finding.mask is not None
    assert finding.mask.shape == (128, 384, 274)
    volumes = {segment.label: segment.volume_ml for segment in finding.segments}
    expected = {
        "Cerebral cortex": 627,
        "Cerebral white matter": 581,
        "Cerebellar cortex": 121,
        "Brain stem": 23,
        "Thalamus": 17.7,
        "Putamen": 13.2,
        "Caudate nucleus": 9.4,
        "Hippocampus": 8.6,
        "Amygdala": 4.5,
    }
    for name, volume_ml in expected.items():
        assert volumes[name] == pytest.approx(volume_ml, rel=0.05), name
    assert all(volumes.values())


@pytest.mark.parametrize("name", ["cxr_pneumonia", "cxr_quality"])
def test_images_at_once_have_the_bits_of_each_alone(
    name: str, engine: Callable[[str], Engine], data_dir: Path
) -> None:
    asked = engine(name)
    prepared = [asked.prepare([data_dir / "xray" / xray]).tensors[0] for xray in XRAYS]
    noise = np.random.default_rng(1).random((9, *prepared[0].shape), np.float32) * 255
    tensors = [*prepared, *noise]
    batch = asked.batch(len(tensors))
    alone = [batch.alone(tensor).tobytes() for tensor in tensors]
    for count in range(2, len(tensors) + 1):
        for _ in range(3):  # the third time they are trusted
            answers = batch.ask(tensors[-count:])
            found = [answer.tobytes() for answer in answers if answer is not None]
            assert found == alone[-count:], count
    assert batch.images_max == len(tensors)
