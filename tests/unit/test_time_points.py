"""A series of several time points, from its files to a SEG each and one report of them all.

What programs that we did not write say of these results is in tests/witness/test_time_points.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from highdicom.sr import Comprehensive3DSR, MeasurementReport
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileDataset

from dicom_node.encode.profiles import PROFILES
from dicom_node.encode.results import Encoded, SegEncoding
from dicom_node.encode.trees import Wanted
from dicom_node.errors import StudyUnusable
from dicom_node.finding import FindingKind
from dicom_node.gate.inspection import Checked, Verdict, inspect
from dicom_node.infer.asking import Networks
from dicom_node.infer.engine import Engine
from dicom_node.infer.engine_folders import load_manifest
from dicom_node.infer.parameters import facts_of
from dicom_node.inference import Outcome, Wishes, infer_and_encode
from dicom_node.packed import PackedMask, planes_of
from tests.factories import CT_SERIES, make_ct_series, make_enhanced, make_mr_series, write_series
from tests.unit.encode.findings import read
from tests.unit.gate.trees import checked
from tests.unit.infer.engine_folders import CLASSIFICATION, FunctionRuntime, write_engine
from tests.whole_way import drawn, evidence, points_in_seg, points_in_slices, shape_in

TIMES = 3
Series = list[FileDataset]


def contrast_arrives(*, is_ct: bool = True, **says: Sequence[Any]) -> list[Series]:
    """Return a series of three time points in each of which more is to be drawn.

    Parameters
    ----------
    says : sequence
        By keyword, what the images of each time point say.
    """
    times = []
    for time in range(TIMES):
        pixels = shape_in(6)
        pixels[1 + time, 18 : 20 + time, 2 : 5 + time] = 300
        if not is_ct:
            pixels = np.maximum(pixels * 20, 0)
        made = make_ct_series(pixels=pixels) if is_ct else make_mr_series(pixels=pixels)
        for index, one in enumerate(made):
            number = time * len(made) + index + 1
            one.SOPInstanceUID = f"{one.SeriesInstanceUID}.{number}"
            one.file_meta.MediaStorageSOPInstanceUID = one.SOPInstanceUID
            one.InstanceNumber = number
            for keyword, values in says.items():
                setattr(one, keyword, values[time])
        times.append(made)
    return times


@dataclass(frozen=True)
class Dynamic:
    """A series as it is sent, and its time points as single-frame slices."""

    sent: Series
    times: list[Series]
    told: str
    """Of the second time point."""
    is_ct: bool = True

    def run(self, folder: Path, **arguments: Any) -> Outcome:
        files = write_series(self.sent, folder / "sent")
        return drawn(files, folder, is_ct=self.is_ct, **arguments)


def perfusion() -> Dynamic:
    times = contrast_arrives(TemporalPositionIdentifier=(1, 2, 3))
    told = "time point 2 of 3 (Temporal Position Identifier 2)"
    return Dynamic([one for time in times for one in time], times, told)


def echoes() -> Dynamic:
    times = contrast_arrives(is_ct=False, EchoTime=(2.4, 4.8, 7.2))
    told = "echo 2 of 3 (Echo Time 4.8 ms)"
    return Dynamic([one for time in times for one in time], times, told, is_ct=False)


def enhanced() -> Dynamic:
    times = contrast_arrives(is_ct=False, EffectiveEchoTime=(2.4, 4.8, 7.2))
    told = "echo 2 of 3 (Effective Echo Time 4.8 ms)"
    sent = [make_enhanced([one for time in times for one in time])]
    return Dynamic(sent, times, told, is_ct=False)


DYNAMIC = {"perfusion CT": perfusion, "echoes": echoes, "enhanced, echoes": enhanced}


def of_kind(outcome: Outcome, kind: str) -> list[Encoded]:
    return [one for one in outcome.encoded if one.kind == kind]


def groups_of(report: Dataset) -> list[Dataset]:
    [measurements] = [
        item
        for item in report.ContentSequence
        if item.ConceptNameCodeSequence[0].CodeValue == "126010"
    ]
    return list(measurements.ContentSequence)


def said(group: Dataset) -> dict[str, Any]:
    """Return the items of a group by the meaning of their names."""
    values: dict[str, Any] = {}
    for item in group.ContentSequence:
        name = item.ConceptNameCodeSequence[0].CodeMeaning
        if item.ValueType == "NUM":
            values[name] = float(item.MeasuredValueSequence[0].NumericValue)
        elif item.ValueType == "IMAGE":
            values[name] = item.ReferencedSOPSequence[0]
        else:
            values[name] = item.get("TextValue") or item.get("UID")
    return values


def numbers_told(groups: Sequence[Mapping[str, Any]]) -> list[int]:
    """Return the numbers of the time points that groups say they are of: echo 2 of 3 (...)."""
    return [int(group["Time Point"].partition(" of ")[0].split()[-1]) for group in groups]


@pytest.mark.parametrize("made", DYNAMIC.values(), ids=DYNAMIC)
def test_each_time_point_has_its_seg_and_the_report_has_them_all(made: Any, tmp_path: Path) -> None:
    source: Dynamic = made()
    outcome = source.run(tmp_path)
    assert [one.kind for one in outcome.encoded] == ["SEG", "SEG", "SEG", "SR"]
    *segs, report = (read(one) for one in outcome.encoded)

    for seg, slices in zip(segs, source.times, strict=True):
        assert points_in_seg(seg) == points_in_slices(slices, is_ct=source.is_ct)
    assert named_by(segs) == expected_names(source)
    assert len({str(seg.SOPInstanceUID) for seg in segs}) == TIMES
    assert len({str(seg.SeriesInstanceUID) for seg in segs}) == TIMES, "OHIF shows one a series"
    numbers = [int(seg.SeriesNumber) for seg in segs]
    assert [number - numbers[0] for number in numbers] == [0, 1, 2]
    noun = source.told.partition(" 2 of")[0]
    described = [str(seg.SeriesDescription).rpartition(", ")[2] for seg in segs]
    assert described == [f"{noun} {number} of 3" for number in (1, 2, 3)]
    assert str(segs[1].ContentDescription).startswith(source.told[:40])

    listed = evidence(report)
    assert {(str(seg.SOPClassUID), str(seg.SOPInstanceUID)) for seg in segs} <= set(listed)
    assert len(listed) == TIMES + len(source.sent)
    groups = [said(group) for group in groups_of(report)]
    assert numbers_told(groups) == [1, 2, 3]
    assert groups[1]["Time Point"] == source.told
    assert len({group["Subject Time Point Identifier"] for group in groups}) == TIMES
    for group, seg, slices in zip(groups, segs, source.times, strict=True):
        assert group["Referenced Segment"].ReferencedSOPInstanceUID == seg.SOPInstanceUID
        [segment] = seg.SegmentSequence
        assert group["Tracking Unique Identifier"] == segment.TrackingUID
        assert group["Tracking Identifier"] == segment.TrackingID
        voxels = len(points_in_slices(slices, is_ct=source.is_ct))
        assert group["Volume"] == pytest.approx(voxels * 2 / 1000, abs=5e-4)
    assert len({group["Tracking Unique Identifier"] for group in groups}) == TIMES


def named_by(segs: Sequence[Dataset]) -> list[set[tuple[str, int | None]]]:
    """Return which images, and frames of images, each SEG names anywhere in a frame's item."""
    named = []
    for seg in segs:
        sources = [
            groups.DerivationImageSequence[0].SourceImageSequence[0]
            for groups in seg.PerFrameFunctionalGroupsSequence
        ]
        named.append(
            {
                (str(one.ReferencedSOPInstanceUID), one.get("ReferencedFrameNumber"))
                for one in sources
            }
        )
    return named


def expected_names(source: Dynamic) -> list[set[tuple[str, int | None]]]:
    if len(source.sent) == 1:
        uid, count = str(source.sent[0].SOPInstanceUID), len(source.times[0])
        return [
            {(uid, time * count + number) for number in range(1, count + 1)}
            for time in range(TIMES)
        ]
    return [{(str(one.SOPInstanceUID), None) for one in slices} for slices in source.times]


@pytest.mark.parametrize("made", DYNAMIC.values(), ids=DYNAMIC)
def test_a_second_run_gives_the_same_bytes(made: Any, tmp_path: Path) -> None:
    first, second = (made().run(tmp_path / name) for name in ("first", "second"))
    assert [one.content for one in first.encoded] == [one.content for one in second.encoded]
    again = [one.content for one in first.encoded]  # a file is made anew from the mask at rest
    assert again == [one.content for one in second.encoded]


def test_highdicom_reads_the_time_point_of_each_group(tmp_path: Path) -> None:
    outcome = perfusion().run(tmp_path)
    [report] = of_kind(outcome, "SR")
    content = Comprehensive3DSR.from_dataset(read(report)).content
    assert isinstance(content, MeasurementReport)
    groups = content.get_volumetric_roi_measurement_groups()
    assert len(groups) == TIMES
    told = [
        [item.value for item in group[0].ContentSequence if item.name.value == "C2348792"]
        for group in groups
    ]
    assert told == [
        [f"time point {number} of 3 (Temporal Position Identifier {number})"]
        for number in (1, 2, 3)
    ]


# ------------------------------------------------------------ other trees, and the gate


def verdicts(outcome: Outcome, *spoiled: Checked) -> tuple[Verdict, ...]:
    by_uid = {one.result.sop_instance_uid: one for one in spoiled}
    results = [
        by_uid.get(one.sop_instance_uid)
        or replace_renditions(checked(one.kind, one.content), one.renditions)
        for one in outcome.encoded
    ]
    return inspect(results, outcome.finding, outcome.headers)


def replace_renditions(one: Checked, renditions: tuple[str, ...]) -> Checked:
    return replace(one, result=replace(one.result, renditions=renditions))


@pytest.mark.parametrize("made", DYNAMIC.values(), ids=DYNAMIC)
@pytest.mark.parametrize("profile", ["ohif", "weasis", "no-seg", "everything"])
def test_the_gate_passes_every_tree_of_several_time_points(
    profile: str, made: Any, tmp_path: Path
) -> None:
    wishes = Wishes({"archive": Wanted(PROFILES[profile], frozenset({SegEncoding.LABELMAP}))})
    source: Dynamic = made()
    outcome = source.run(tmp_path, wishes=wishes)
    assert verdicts(outcome) == ()
    own = [one for one in outcome.encoded if outcome.renditions["archive"] in one.renditions]
    kinds = [one.kind for one in own]
    segs = {"ohif": "LABELMAP", "weasis": "SEG", "everything": "LABELMAP"}
    assert kinds.count(segs.get(profile, "PR")) == TIMES
    assert kinds.count("SR") == 1
    series = {(one.kind, one.series_instance_uid) for one in own}
    for kind in {"SEG", "LABELMAP", "PR", "SC"} & set(kinds):
        assert sum(one == kind for one, _ in series) == TIMES, f"a series of {kind} each"
    [report] = [read(one) for one in own if one.kind == "SR"]
    listed = {uid for _, uid in evidence(report)}
    assert {one.sop_instance_uid for one in own if one.kind != "SR"} <= listed


def test_the_gate_holds_back_the_voxels_of_another_time_point(tmp_path: Path) -> None:
    outcome = perfusion().run(tmp_path)
    first, second = (read(one) for one in of_kind(outcome, "SEG")[:2])
    pixels: bytes = second.PixelData
    first.PixelData = pixels[: len(first.PixelData)]
    first.save_as(tmp_path / "first.dcm")
    wrong = checked("SEG", (tmp_path / "first.dcm").read_bytes())
    [verdict] = verdicts(outcome, wrong)
    assert "has other voxels than the finding" in verdict.in_words


def test_the_gate_holds_back_a_frame_that_names_another_time_point(tmp_path: Path) -> None:
    source = perfusion()
    outcome = source.run(tmp_path)
    seg = read(of_kind(outcome, "SEG")[0])
    frame = seg.PerFrameFunctionalGroupsSequence[2]
    [named] = frame.DerivationImageSequence[0].SourceImageSequence
    named.ReferencedSOPInstanceUID = source.times[1][2].SOPInstanceUID
    seg.save_as(tmp_path / "seg.dcm")
    [verdict] = verdicts(outcome, checked("SEG", (tmp_path / "seg.dcm").read_bytes()))
    assert "does not tell its source" in verdict.in_words


# ------------------------------------------------------------ which ones, and what is said


def test_an_engine_may_take_the_first_or_the_last(tmp_path: Path) -> None:
    source = echoes()
    for take, kept in (("first", 0), ("last", 2)):
        outcome = source.run(tmp_path / take, volume={"time_points": take})
        assert [one.kind for one in outcome.encoded] == ["SEG", "SR"]
        seg, report = (read(one) for one in outcome.encoded)
        assert points_in_seg(seg) == points_in_slices(source.times[kept], is_ct=False)
        assert numbers_told([said(groups_of(report)[0])]) == [kept + 1]
        words = f"12 instances left out: not the {take} echo, which is all that this engine takes"
        assert words in outcome.finding.warnings
        assert verdicts(outcome) == ()


@pytest.mark.parametrize(
    ("volume", "words"),
    [
        ({"time_points": "refuse"}, "3 echoes in one series, and this engine takes one volume"),
        ({"time_points_max": 2}, "3 echoes in one series, more than 2"),
    ],
)
def test_more_than_an_engine_takes_is_refused_in_words(
    volume: Mapping[str, Any], words: str, tmp_path: Path
) -> None:
    with pytest.raises(StudyUnusable) as refusal:
        echoes().run(tmp_path, volume=volume)
    assert words in refusal.value.message


def test_what_is_true_of_all_time_points_is_said_once(tmp_path: Path) -> None:
    finding = perfusion().run(tmp_path).finding
    assert finding.summary.startswith("3 time points; 1: ball ")
    assert finding.summary.count("ball") == TIMES
    assert finding.warnings == ("Ball: reaches the first or last slice, the whole may be larger",)


def test_a_scan_that_was_broken_off_says_so_in_the_report(tmp_path: Path) -> None:
    source = perfusion()
    files = write_series(source.sent[:-2], tmp_path / "sent")
    outcome = drawn(files, tmp_path)
    assert [one.kind for one in outcome.encoded] == ["SEG", "SEG", "SR"]
    words = (
        "4 instances left out: time point 3 of 3 (Temporal Position Identifier 3) has only 4 of 6 "
        "slices"
    )
    assert words in outcome.finding.warnings
    assert words.encode() in outcome.encoded[-1].content


def test_rules_see_a_number_for_each_time_point(tmp_path: Path) -> None:
    source = perfusion()
    facts = facts_of(source.run(tmp_path).finding)
    volumes = [len(points_in_slices(slices)) * 2 / 1000 for slices in source.times]
    assert [float(value) for value in facts["volume_ml.ball"]] == pytest.approx(volumes)
    assert facts["present"] == ("Ball",)


def test_a_time_point_keeps_its_series_when_an_earlier_one_arrives_late(tmp_path: Path) -> None:
    source = perfusion()
    late = [one for time in source.times[1:] for one in time]
    before = drawn(write_series(late, tmp_path / "before"), tmp_path)
    after = source.run(tmp_path / "after")
    series = [
        {one.series_instance_uid for one in of_kind(outcome, "SEG")} for outcome in (before, after)
    ]
    assert series[0] < series[1]


def one_of_a_series(network: Any, kind: dict[str, Any], folder: Path, source: Dynamic) -> Outcome:
    """Return what an engine says that looks at a whole volume and draws nothing."""
    seen = {"network_sees": "whole", "axes": "HPL", "oblique_max_degrees": 45}
    written = {key: value for key, value in kind.items() if key != "image"}
    written |= {"accepts": {"Modality": "MR"}, "volume": seen}
    written |= {"intensity": {"values": "brightness"}}
    manifest = load_manifest(write_engine(folder / "engines", written))
    engine = Engine(manifest, Networks((FunctionRuntime(network),)))
    files = write_series(source.sent, folder / "sent")
    return infer_and_encode(engine, files, 1_700_000_000.0, "job", "NODE")


def test_a_classifier_says_of_each_time_point_what_it_sees(tmp_path: Path) -> None:
    def more_is_likelier(values: NDArray[Any]) -> NDArray[Any]:
        share = np.float32(np.mean(values > 500) * 2)
        return np.array([[0, share]], np.float32)

    outcome = one_of_a_series(more_is_likelier, CLASSIFICATION, tmp_path, enhanced())
    assert [one.kind for one in outcome.encoded] == ["SR"]
    assert verdicts(outcome) == ()
    groups = [said(group) for group in groups_of(read(outcome.encoded[0]))]
    assert numbers_told(groups) == [1, 2, 3]
    likely = [group["Probability"] for group in groups]
    assert likely == sorted(set(likely))
    assert likely[0] > 0
    assert len({group["Tracking Unique Identifier"] for group in groups}) == TIMES
    facts = facts_of(outcome.finding)
    assert [float(one) for one in facts["probability.brightness"]] == pytest.approx(
        likely, abs=1e-4
    )
    assert float(facts["probability"][0]) == pytest.approx(likely[-1], abs=1e-4)


def test_a_time_point_that_cannot_be_looked_at_refuses_the_series_and_is_named(
    tmp_path: Path,
) -> None:
    source = echoes()
    source.times[1][3].RescaleSlope = 0.0
    with pytest.raises(StudyUnusable) as refusal:
        source.run(tmp_path)
    assert refusal.value.message.startswith("echo 2 of 3 (Echo Time 4.8 ms): instance ")
    assert "all contrast is lost" in refusal.value.message


# ------------------------------------------------------------ memory


@pytest.mark.parametrize("shape", [(5, 16, 12), (3, 5, 16, 12)])
def test_a_mask_at_rest_is_the_mask(shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(4)
    mask: NDArray[Any] = rng.integers(0, 3, shape, np.uint8)
    if len(shape) == 4:
        mask = mask.astype(np.bool_)
    packed = PackedMask(mask)
    assert (packed.shape, packed.ndim, packed.dtype, len(packed)) == (
        mask.shape,
        mask.ndim,
        mask.dtype,
        len(mask),
    )
    np.testing.assert_array_equal(np.asarray(packed), mask)
    for at in range(shape[0]):
        np.testing.assert_array_equal(packed[at], mask[at])
    if len(shape) == 4:
        np.testing.assert_array_equal(packed[2, 4], mask[2, 4])
    assert [*map(np.sum, planes_of(packed))] == [*map(np.sum, planes_of(mask))]


def test_the_masks_of_time_points_lie_deflated(tmp_path: Path) -> None:
    """Four in a hundred of the bytes of an open mask at 512 x 512; here a tenth is enough."""
    finding = perfusion().run(tmp_path).finding
    assert finding.kind is FindingKind.SEGMENTATION
    for part in finding.parts:
        assert isinstance(part.mask, PackedMask)
        assert part.mask.packed_bytes < 6 * 24 * 20 / 4


def test_uids_of_another_series_are_others(tmp_path: Path) -> None:
    """The key of a time point is a value that many series have: Temporal Position Identifier 1."""
    outcome = perfusion().run(tmp_path / "one")
    other = perfusion()
    for one in other.sent:
        one.SeriesInstanceUID = f"{CT_SERIES}.77"
        one.SOPInstanceUID = f"{one.SOPInstanceUID}.77"
    theirs = other.run(tmp_path / "other")
    mine = {one.series_instance_uid for one in outcome.encoded}
    assert mine.isdisjoint(one.series_instance_uid for one in theirs.encoded)
