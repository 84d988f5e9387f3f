"""An engine answers what it was made for, and refuses the rest with every reason."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from dicom_node.errors import EngineError, StudyUnusable
from dicom_node.finding import Code, FindingKind, QualityGrade
from dicom_node.infer.asking import Networks
from dicom_node.infer.engine import Engine
from dicom_node.infer.engine_folders import load_manifest
from dicom_node.infer.engine_loading import load_engine
from tests.factories import CT_SERIES, XRAY_SERIES, make_ct_series, make_xray, write, write_series
from tests.unit.infer.engine_folders import (
    CLASSIFICATION,
    QUALITY,
    REGRESSION,
    SEGMENTATION,
    FunctionRuntime,
    Network,
    two_channels,
    write_engine,
)

SLICEWISE = SEGMENTATION["volume"] | {"network_sees": "slice", "spacing_mm": [None, None, None]}


def engine(root: Path, written: dict[str, Any], network: Network, **changes: Any) -> Engine:
    manifest = load_manifest(write_engine(root / "engines", written, **changes))
    return Engine(manifest, Networks((FunctionRuntime(network),)))


def balls(*spheres: tuple[float, float, float, float]) -> NDArray[np.int16]:
    """Return 20 slices of 40 x 40 with spheres (slice, row, column, radius) of 0 HU in air."""
    at = np.moveaxis(np.mgrid[0:20, 0:40, 0:40], 0, -1)
    pixels = np.full((20, 40, 40), -1000, np.int16)
    for *centre, radius in spheres:
        pixels[np.linalg.norm(at - centre, axis=-1) <= radius] = 0
    return pixels


def ct(folder: Path, pixels: NDArray[np.int16], **changes: Any) -> list[Path]:
    return write_series(
        make_ct_series(pixels=pixels, spacing_mm=(1.0, 1.0, 1.0), **changes), folder / "ct"
    )


# ---------------------------------------------------------------- segmentation


@pytest.mark.parametrize(
    "sees",
    [
        {"network_sees": "slice"},
        {"network_sees": "whole"},
        {"network_sees": "slab", "slab_slices": 3},
        {"network_sees": "window", "window": {"size": [8, 16, 16], "skip_below": -900}},
    ],
    ids=lambda sees: sees["network_sees"],
)
def test_a_mask_comes_in_the_order_of_the_slices(sees: dict[str, Any], tmp_path: Path) -> None:
    def of_the_middle(values: NDArray[Any]) -> NDArray[Any]:
        middle = values.shape[1] // 2
        return two_channels(values[:, middle : middle + 1])

    pixels = balls((8, 12, 25, 5))
    paths = ct(tmp_path, pixels)
    volume = SLICEWISE | sees
    finding, headers = engine(tmp_path, SEGMENTATION, of_the_middle, volume=volume).run(paths[::-1])
    assert finding.kind is FindingKind.SEGMENTATION
    assert finding.mask is not None
    assert np.array_equal(finding.mask, pixels == 0)
    expected = tuple(f"{CT_SERIES}.{number}" for number in range(1, 21))
    assert finding.sop_instance_uids == expected
    assert tuple(header.SOPInstanceUID for header in headers) == expected
    assert all("PixelData" not in header for header in headers)
    (segment,) = finding.segments
    assert segment.volume_ml == pytest.approx(np.count_nonzero(pixels == 0) / 1000)
    assert finding.summary == f"ball {segment.volume_ml:.1f} ml"
    assert finding.warnings == ()


def test_the_identity_is_that_of_the_manifest(tmp_path: Path) -> None:
    identity = engine(tmp_path, SEGMENTATION, two_channels).identity
    assert (identity.name, identity.version) == ("an_engine", "1.2.3")
    assert identity.runtime == "a function"
    assert identity.limits == ("For tests only.",)
    assert len(identity.model_digest) == 64


def test_labels_become_segment_numbers_in_the_manifests_order(tmp_path: Path) -> None:
    def network(values: NDArray[Any]) -> NDArray[Any]:
        labels = np.zeros(values.shape, np.uint8)
        labels[..., :10], labels[..., 10:20], labels[..., 20:30] = 9, 4, 2
        return labels

    first = SEGMENTATION["segments"][0]
    finding, _ = engine(
        tmp_path,
        SEGMENTATION,
        network,
        model=SEGMENTATION["model"] | {"gives": "labels"},
        segments=[first | {"label": 4, "name": "Four"}, first | {"label": 9, "name": "Nine"}],
    ).run(ct(tmp_path, balls()))
    mask = np.asarray(finding.mask)
    assert np.unique(mask[:, :, :10]).tolist() == [2]
    assert np.unique(mask[:, :, 10:20]).tolist() == [1]
    assert np.unique(mask[:, :, 20:]).tolist() == [0]
    assert [(one.segment_number, one.label) for one in finding.segments] == [
        (1, "Four"),
        (2, "Nine"),
    ]


def test_the_largest_component_is_kept(tmp_path: Path) -> None:
    paths = ct(tmp_path, balls((8, 12, 25, 5), (14, 30, 8, 3)))
    run = engine(tmp_path, SEGMENTATION, two_channels, components={"keep": "largest"}).run
    finding, _ = run(paths)
    assert finding.mask is not None
    assert np.array_equal(finding.mask, balls((8, 12, 25, 5)) == 0)


@pytest.mark.parametrize("wanted", [False, True])
def test_probabilities_are_kept_where_the_manifest_says_so(wanted: bool, tmp_path: Path) -> None:
    """Also of what the mask has lost: the smaller ball, and what is not likely enough."""
    pixels = balls((8, 12, 25, 5), (14, 30, 8, 3))
    pixels[2, 20:22, 20:22] = -700
    changes = {"components": {"keep": "largest"}, "probabilities": wanted}
    finding, _ = engine(tmp_path, SEGMENTATION, two_channels, **changes).run(ct(tmp_path, pixels))
    assert finding.mask is not None
    assert np.array_equal(finding.mask, balls((8, 12, 25, 5)) == 0)
    if not wanted:
        assert finding.probabilities is None
        return
    expected = np.rint((pixels.astype(np.float32) + 1000) / 1000 * 255).astype(np.uint8)
    assert finding.probabilities is not None
    assert np.array_equal(finding.probabilities, expected[None])


def test_what_the_manifest_names_is_measured_in_hounsfield_units_and_mm(tmp_path: Path) -> None:
    pixels = balls((8, 12, 25, 5), (15, 30, 8, 2))
    pixels[8, 12, 25] = 50
    words = ["diameters", "longest_diameter", "mean_value", "count", "volume"]
    run = engine(tmp_path, SEGMENTATION, two_channels, measurements=words).run
    (segment,) = run(ct(tmp_path, pixels, RescaleIntercept=-10))[0].segments
    told = {one.name: one.value for one in segment.measurements}
    assert list(told)[:3] == ["long_axis_mm", "short_axis_mm", "longest_diameter_mm"]
    assert told["long_axis_mm"] == pytest.approx(11, abs=0.2)
    assert told["longest_diameter_mm"] >= told["long_axis_mm"] >= told["short_axis_mm"]
    assert told["mean_value"] == pytest.approx(-10 + 50 / np.count_nonzero(pixels > -1000))
    assert (told["min_value"], told["max_value"]) == (-10, 40)
    assert told["count"] == 2
    assert told["volume_ml"] == pytest.approx(segment.volume_ml)


def test_corners_join_at_26_and_not_at_6(tmp_path: Path) -> None:
    pixels = np.full((20, 40, 40), -1000, np.int16)
    pixels[5:8, 5:8, 5:8] = 0
    pixels[8:10, 8:10, 8:10] = 0
    counts = []
    for connectivity in (6, 26):
        components = {"keep": "largest", "connectivity": connectivity}
        folder = tmp_path / str(connectivity)
        run = engine(folder, SEGMENTATION, two_channels, components=components).run
        finding, _ = run(ct(folder, pixels))
        assert finding.mask is not None
        counts.append(np.count_nonzero(finding.mask))
    assert counts == [27, 35]


@pytest.mark.parametrize(
    ("pixels", "summary", "warning"),
    [
        (balls(), "nothing found: ball 0 ml", "Ball: not found"),
        (
            balls((10, 20, 20, 2)),
            "nothing found: ball 0 ml",
            "Ball: 0.033 ml is less than 0.1 ml and was taken for noise",
        ),
        (
            balls((0, 20, 20, 5)),
            "ball 0.3 ml",
            "Ball: reaches the first or last slice, the whole may be larger",
        ),
    ],
)
def test_what_is_missing_or_cut_off_is_said(
    pixels: NDArray[np.int16], summary: str, warning: str, tmp_path: Path
) -> None:
    components = {"volume_min_ml": 0.1}
    run = engine(tmp_path, SEGMENTATION, two_channels, components=components).run
    finding, _ = run(ct(tmp_path, pixels))
    assert finding.summary == summary
    assert finding.warnings == (warning,)


def test_the_main_network_sees_only_what_was_located(tmp_path: Path) -> None:
    folder = write_engine(
        tmp_path,
        SEGMENTATION,
        volume=SEGMENTATION["volume"] | {"size_multiple": 4},
        locate={
            "sha256": "0" * 64,
            "input": "x",
            "output": "y",
            "what": "ball",
            "margin_mm": 2,
            "volume_min_ml": 0.1,
        },
    )
    main = FunctionRuntime(two_channels)
    locate = FunctionRuntime(lambda values: (values > -500).astype(np.uint8))
    located = Engine(load_manifest(folder), Networks((main,), locate))
    pixels = balls((8, 12, 25, 5), (17, 38, 2, 1))
    finding, _ = located.run(ct(tmp_path, pixels))
    assert locate.given[0].shape == (1, 1, 20, 40, 40)
    assert main.given[0].shape == (1, 1, 16, 16, 16)  # 11 voxels, 2 around, a multiple of 4
    assert finding.mask is not None
    assert np.array_equal(finding.mask, balls((8, 12, 25, 5)) == 0)

    nothing = write_series(make_ct_series(pixels=balls((8, 12, 25, 1))), tmp_path / "empty")
    with pytest.raises(StudyUnusable, match=r"no ball found: 0 ml, less than 0\.1"):
        located.run(nothing)


def test_an_answer_of_another_shape_is_the_engines_fault(tmp_path: Path) -> None:
    run = engine(tmp_path, SEGMENTATION, lambda values: values[..., :5]).run
    with pytest.raises(EngineError, match="answers with shape"):
        run(ct(tmp_path, balls()))


def test_every_condition_that_fails_is_told(tmp_path: Path) -> None:
    accepts = {"Modality": "MR", "instance_count": ">= 50", "KVP": "80 .. 140"}
    run = engine(tmp_path, SEGMENTATION, two_channels, accepts=accepts).run
    with pytest.raises(StudyUnusable) as refusal:
        run(ct(tmp_path, balls()))
    assert refusal.value.message == (
        "not what an_engine was made for: Modality is CT, not MR; instance_count is 20, not >= 50"
    )
    assert refusal.value.hint


# ---------------------------------------------------------------- single images


def by_brightness(values: NDArray[Any]) -> NDArray[Any]:
    """Return (dark, bright, AP): of an image scaled to 0..255 by its own range."""
    bright = values.mean(axis=(1, 2, 3)) / 255
    return np.stack([1 - bright, bright, np.full_like(bright, 0.9)], axis=1)


def xray(share_bright: float, **changes: Any) -> Any:
    """Return an image of which this share of the rows is 1000 and the rest 0."""
    pixels = np.zeros((200, 200), np.uint16)
    pixels[: round(200 * share_bright)] = 1000
    return make_xray(pixels, **changes)


def test_each_image_is_classified_by_itself(tmp_path: Path) -> None:
    series = [xray(0.25, number=1), xray(0.75, number=2)]
    finding, headers = engine(tmp_path, CLASSIFICATION, by_brightness).run(
        write_series(series[::-1], tmp_path)
    )
    assert finding.sop_instance_uids == (f"{XRAY_SERIES}.1", f"{XRAY_SERIES}.2")
    assert [header.InstanceNumber for header in headers] == [1, 2]
    assert [round(one.probability, 3) for one in finding.classifications] == [0.25, 0.75]
    assert [one.present for one in finding.classifications] == [False, True]
    assert finding.summary == "brightness 0.75 (present, 1 of 2 images)"


def test_each_image_has_its_number_in_the_unit_of_the_manifest(tmp_path: Path) -> None:
    series = [xray(share, number=number) for number, share in ((1, 0.25), (2, 0.75), (3, 0.5))]
    finding, _ = engine(tmp_path, REGRESSION, by_brightness).run(write_series(series, tmp_path))
    assert finding.kind is FindingKind.REGRESSION
    assert [one.sop_instance_uid for one in finding.values] == list(finding.sop_instance_uids)
    assert [round(one.value) for one in finding.values] == [48, 168, 108]
    assert finding.values[0].unit == Code("mo", "UCUM", "month")
    assert finding.summary == "Bone age 48 to 168 month (3 images)"


def test_an_image_with_a_number_that_is_not_plausible_is_refused(tmp_path: Path) -> None:
    run = engine(tmp_path, REGRESSION, by_brightness).run
    reason = r"Bone age would be -9\.6 month, not plausible: 0 to 216"
    with pytest.raises(StudyUnusable, match=reason):
        run([write(xray(0.01), tmp_path / "a.dcm")])
    series = [xray(0.01, number=1), xray(0.5, number=2)]
    finding, headers = run(write_series(series, tmp_path / "series"))
    assert len(headers) == len(finding.values) == 1
    assert finding.summary == "Bone age 108 month"
    assert finding.warnings[0].startswith("1 instance left out: Bone age would be")


def test_a_number_that_the_network_does_not_give_is_the_engines_fault(tmp_path: Path) -> None:
    values = [REGRESSION["values"][0] | {"index": 7}]
    run = engine(tmp_path, REGRESSION, by_brightness, values=values).run
    with pytest.raises(EngineError, match="names output 7, but its network has 3"):
        run([write(xray(0.5), tmp_path / "a.dcm")])


def test_an_inverted_image_is_shown_as_it_looks(tmp_path: Path) -> None:
    image = xray(0.25, PhotometricInterpretation="MONOCHROME1")
    finding, _ = engine(tmp_path, CLASSIFICATION, by_brightness).run([write(image, tmp_path / "a")])
    assert finding.classifications[0].probability == pytest.approx(0.75)
    assert finding.summary == "brightness 0.75 (present)"


@pytest.mark.parametrize(
    ("share_bright", "grade", "found", "summary"),
    [
        (0.5, QualityGrade.LIMITED, (True, True), "quality limited: dark 0.50, bright 0.50"),
        (0.25, QualityGrade.NON_DIAGNOSTIC, (True, False), "quality non-diagnostic: dark 0.75"),
        (0.75, QualityGrade.NON_DIAGNOSTIC, (False, True), "quality non-diagnostic: bright 0.75"),
    ],
)
def test_the_worst_fault_gives_the_grade(
    share_bright: float,
    grade: QualityGrade,
    found: tuple[bool, bool],
    summary: str,
    tmp_path: Path,
) -> None:
    path = write(xray(share_bright), tmp_path / "a.dcm")
    finding, _ = engine(tmp_path, QUALITY, by_brightness).run([path])
    (quality,) = finding.qualities
    assert quality.grade is grade
    assert tuple(fault.found for fault in quality.faults) == found
    assert quality.notes == ("AP view (0.90)",)
    assert finding.summary == summary


def test_without_a_fault_the_quality_is_diagnostic(tmp_path: Path) -> None:
    def faultless(values: NDArray[Any]) -> NDArray[Any]:
        return np.array([[0.1, 0.2, 0.2]])

    path = write(xray(0.5), tmp_path / "a.dcm")
    finding, _ = engine(tmp_path, QUALITY, faultless).run([path])
    assert finding.qualities[0].grade is QualityGrade.DIAGNOSTIC
    assert finding.qualities[0].notes == ("PA view (0.80)",)
    assert finding.summary == "quality diagnostic"


def test_images_that_are_not_accepted_are_left_out(tmp_path: Path) -> None:
    series = [
        xray(0.25, number=1),
        xray(0.25, number=2, Modality="DX"),
        xray(0.25, number=3, PixelData=None),
        make_xray(np.full((200, 200), 3, np.uint16), number=4),
    ]
    run = engine(tmp_path, CLASSIFICATION, by_brightness).run
    finding, headers = run(write_series(series, tmp_path))
    assert finding.sop_instance_uids == (f"{XRAY_SERIES}.1",)
    assert len(headers) == 1
    assert finding.warnings == (
        "1 instance left out: Modality is DX, not CR",
        f"1 instance left out: instance {XRAY_SERIES}.3 has no Pixel Data",
        "1 instance left out: no contrast: the pixels lie at 3 and nowhere else",
    )
    with pytest.raises(StudyUnusable, match="not what an_engine was made for: Modality is DX"):
        run([write(series[1], tmp_path / "alone.dcm")])


def test_a_number_that_is_no_probability_is_the_engines_fault(tmp_path: Path) -> None:
    path = write(xray(0.5), tmp_path / "a.dcm")
    for index, answer in enumerate([[[0.0, 1.5]], [[0.0]], [[0.0, np.nan]], [0.0, 1.0]]):

        def network(_: NDArray[Any], given: object = answer) -> NDArray[Any]:
            return np.array(given)

        run = engine(tmp_path / str(index), CLASSIFICATION, network).run
        with pytest.raises(EngineError):
            run([path])


# ---------------------------------------------------------------- loading and verifying


def test_a_model_with_another_digest_is_not_loaded(tmp_path: Path) -> None:
    folder = write_engine(tmp_path, SEGMENTATION)
    (folder / "model.onnx").write_bytes(b"another model")
    with pytest.raises(EngineError, match=r"has SHA-256 .*, but an_engine names"):
        load_engine(folder, threads=1)


def test_a_file_that_is_no_model_is_not_loaded(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"model\.onnx cannot be loaded"):
        load_engine(write_engine(tmp_path, SEGMENTATION), threads=1)


def test_the_test_vector_tells_a_wrong_answer(tmp_path: Path) -> None:
    def network(values: NDArray[Any]) -> NDArray[Any]:
        return values + 1

    verified = engine(tmp_path, SEGMENTATION, network)
    vector = tmp_path / "engines" / "an_engine" / "test_vector.npz"
    np.savez(vector, input=np.zeros((1, 2)), output=np.full((1, 2), 1.0005))
    verified.verify()
    np.savez(vector, input=np.zeros((1, 2)), output=np.full((1, 2), 1.01))
    with pytest.raises(
        EngineError, match=r"model\.onnx: numbers differ by up to 0\.01, more than 0\.001"
    ):
        verified.verify()
    np.savez(vector, input=np.zeros((1, 2)), output=np.ones((1, 3)))
    with pytest.raises(EngineError, match="has shape"):
        verified.verify()
    np.savez(vector, input=np.zeros((1, 2)))
    with pytest.raises(EngineError, match="has not the arrays input, output"):
        verified.verify()


# ---------------------------------------------------------------- one answer for a series


BRIGHT = CLASSIFICATION["classes"][0]


def densest(values: NDArray[Any]) -> NDArray[Any]:
    """Return how sure it is that a part has no ball, and that it has one."""
    found = (values.reshape(len(values), -1).max(axis=1) + 1000) / 1000
    return np.stack([1 - found, found], axis=1).astype(np.float32)


@pytest.mark.parametrize(
    ("sees", "expected"),
    [
        ({"network_sees": "whole"}, 1.0),
        ({"network_sees": "slice"}, 5 / 20),  # the ball is in 5 of 20 slices
        ({"network_sees": "slice", "combine": "max"}, 1.0),
        ({"network_sees": "slab", "slab_slices": 3}, 7 / 20),
        ({"network_sees": "slice", "take": {"part": [0.5, 1.0]}}, 2 / 10),
        ({"network_sees": "slice", "take": {"at_most": 3}}, 1 / 3),
        ({"network_sees": "window", "window": {"size": [10, 40, 40], "overlap": 0}}, 0.5 + 0.5),
    ],
    ids=str,
)
def test_a_series_is_classified_as_a_whole(
    sees: dict[str, Any], expected: float, tmp_path: Path
) -> None:
    written = {**SEGMENTATION, "kind": "classification", "classes": [BRIGHT]}
    del written["segments"]
    run = engine(tmp_path, written, densest, volume=SLICEWISE | sees).run
    finding, headers = run(ct(tmp_path, balls((9, 20, 20, 2))))
    (said,) = finding.classifications
    assert said.sop_instance_uid == ""
    assert said.probability == pytest.approx(expected)
    assert len(headers) == len(finding.sop_instance_uids) == 20
    assert finding.mask is None


def test_the_quality_of_a_series_is_graded(tmp_path: Path) -> None:
    written = {**SEGMENTATION, "kind": "quality", "faults": QUALITY["faults"]}
    del written["segments"]
    finding, _ = engine(tmp_path, written, densest).run(ct(tmp_path, balls((9, 20, 20, 2))))
    (quality,) = finding.qualities
    assert quality.grade is QualityGrade.NON_DIAGNOSTIC
    assert finding.summary == "quality non-diagnostic: bright 1.00"


@pytest.mark.parametrize(
    ("classes_are", "expected"), [("exclusive", 0.880797), ("independent", 0.731059)]
)
def test_logits_become_probabilities(classes_are: str, expected: float, tmp_path: Path) -> None:
    """exp(1) against exp(-1), or 1 / (1 + exp(-1))."""
    model = CLASSIFICATION["model"] | {"gives": "logits", "classes_are": classes_are}
    run = engine(
        tmp_path,
        CLASSIFICATION,
        lambda values: np.array([[-1, 1]], np.float32).repeat(len(values), 0),
        model=model,
    ).run
    finding, _ = run([write(make_xray(), tmp_path / "x.dcm")])
    assert finding.classifications[0].probability == pytest.approx(expected, abs=1e-6)
