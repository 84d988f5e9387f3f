"""Every object on enhanced sources: it names frames by their numbers, and lies where they lie.

What programs that we did not write say of them is in tests/witness/test_enhanced_objects.py.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from tests.enhanced import ENHANCED, Written, made_on
from tests.unit.test_sources import Source, place_of
from tests.whole_way import instances_listed

Named = tuple[str, str, int | None]
"""SOP Class, SOP Instance UID, frame number."""


@pytest.fixture(scope="module", params=ENHANCED)
def made(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Source, Written]:
    return made_on(request.param, tmp_path_factory.mktemp("made"))


def values_of(source: Source) -> dict[tuple[float, ...], NDArray[np.float64]]:
    """Return the rescaled values of each slice by its place."""
    return {
        place_of(one): one.pixel_array * float(one.get("RescaleSlope", 1))
        + float(one.get("RescaleIntercept", 0))
        for one in source.slices
    }


def inside(source: Source) -> dict[tuple[float, ...], NDArray[np.bool_]]:
    """Return what the engine has to draw of each slice by its place."""
    least = -500 if source.is_ct else 500
    return {at: values > least for at, values in values_of(source).items()}


def frames_of(made: Dataset) -> Iterator[tuple[tuple[float, ...], Named, int]]:
    """Yield place, source and index of each frame."""
    for index, groups in enumerate(made.PerFrameFunctionalGroupsSequence):
        [derivation] = groups.DerivationImageSequence
        [named] = derivation.SourceImageSequence
        yield place_of(groups.PlanePositionSequence[0]), name_of(named), index


def name_of(item: Dataset) -> Named:
    number = item.get("ReferencedFrameNumber")
    return (
        str(item.ReferencedSOPClassUID),
        str(item.ReferencedSOPInstanceUID),
        None if number is None else int(number),
    )


def whole(names: set[Named]) -> list[tuple[str, str]]:
    return sorted({(sop_class, uid) for sop_class, uid, _ in names})


def test_the_gate_lets_all_of_it_out(made: tuple[Source, Written]) -> None:
    _, written = made
    assert written.reason == ""
    assert {kind: len(paths) for kind, paths in written.paths.items()} == {
        **{"SEG": 1, "LABELMAP": 1, "FRACTIONAL": 1, "PM": 1, "PR": 1, "PDF": 1},
        **{"SC": len(written.paths["SC"]), "KO": 3, "SR": 4},
    }


def test_a_label_map_has_the_voxels_of_each_frame_and_names_it(
    made: tuple[Source, Written],
) -> None:
    source, written = made
    labels = written.read("LABELMAP")
    pixels, expected = labels.pixel_array, inside(source)
    places = {at: (named, index) for at, named, index in frames_of(labels)}
    assert {at: named for at, (named, _) in places.items()} == source.named
    for at, (_, index) in places.items():
        np.testing.assert_array_equal(pixels[index], expected[at])
    assert sorted(instances_listed(labels)) == whole(set(source.named.values()))


def test_fractions_are_as_likely_as_the_engine_says_in_each_frame(
    made: tuple[Source, Written],
) -> None:
    source, written = made
    fractions = written.read("FRACTIONAL")
    assert (fractions.SegmentationFractionalType, fractions.MaximumFractionalValue) == (
        "PROBABILITY",
        255,
    )
    pixels, values, drawn = fractions.pixel_array, values_of(source), inside(source)
    places = {at: (named, index) for at, named, index in frames_of(fractions)}
    assert {at: named for at, (named, _) in places.items()} == source.named
    for at, (_, index) in places.items():
        likely = np.clip((values[at] + 1000) / 1000, 0, 1) if source.is_ct else drawn[at]
        np.testing.assert_array_equal(pixels[index], np.rint(np.float32(255) * likely))


def test_numbers_of_a_map_lie_on_their_frames(made: tuple[Source, Written]) -> None:
    source, written = made
    mapped = written.read("PM")
    frames = np.frombuffer(mapped.FloatPixelData, np.float32)
    frames = frames.reshape(-1, mapped.Rows, mapped.Columns)
    headers = {place_of(one): index for index, one in enumerate(written.outcome.headers)}
    values = written.outcome.finding.maps[0].values
    places = list(frames_of(mapped))
    assert {at: named for at, named, _ in places} == source.named
    for at, _, index in places:
        np.testing.assert_array_equal(frames[index], values[headers[at]])
    instances = whole(set(source.named.values()))
    assert sorted(name_of(one) for one in mapped.SourceImageSequence) == [
        (*one, None) for one in instances
    ]
    assert sorted(instances_listed(mapped)) == instances


def test_outlines_lie_on_their_frames(made: tuple[Source, Written]) -> None:
    source, written = made
    state = written.read("PR")
    listed = [
        (item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID, int(number))
        for series in state.ReferencedSeriesSequence
        for item in series.ReferencedImageSequence
        for number in np.atleast_1d(item.ReferencedFrameNumber)
    ]
    assert sorted(listed) == sorted(source.named.values())
    places = {named: at for at, named in source.named.items()}
    outlined = {}
    for item in state.GraphicAnnotationSequence:
        if item.GraphicLayer.startswith("SEGMENT"):
            [image] = item.ReferencedImageSequence
            outlines = [np.reshape(one.GraphicData, (-1, 2)) for one in item.GraphicObjectSequence]
            outlined[places[name_of(image)]] = np.concatenate(outlines)
    drawn = inside(source)
    assert outlined.keys() == drawn.keys()
    for at, points in outlined.items():
        rows, columns = np.nonzero(drawn[at])
        # along the edges of the pixels, which have their corners at half numbers (PS3.3 C.10.5)
        np.testing.assert_array_equal(points.min(axis=0), [columns.min(), rows.min()])
        np.testing.assert_array_equal(points.max(axis=0), [columns.max() + 1, rows.max() + 1])


def test_pictures_and_key_objects_name_the_frame_that_they_show(
    made: tuple[Source, Written],
) -> None:
    source, written = made
    capture, selection = written.read("SC"), written.read("KO")
    [shown] = capture.SourceImageSequence
    areas = {source.named[at]: int(drawn.sum()) for at, drawn in inside(source).items()}
    assert areas[name_of(shown)] == max(areas.values())
    selected = [
        name_of(item)
        for content in selection.ContentSequence
        for item in content.get("ReferencedSOPSequence", ())
    ]
    assert name_of(shown) in selected
    assert whole({name_of(shown)})[0] not in [
        (sop_class, uid) for sop_class, uid, number in selected if number is None
    ], "all frames of the image are selected"
    [series] = capture.ReferencedSeriesSequence
    assert [name_of(one)[2] for one in series.ReferencedInstanceSequence] == [None]


def test_a_report_for_people_lists_each_instance_once_and_whole(
    made: tuple[Source, Written],
) -> None:
    source, written = made
    listed = [name_of(one) for one in written.read("PDF").SourceInstanceSequence]
    assert sorted(listed) == [(*one, None) for one in whole(set(source.named.values()))]


def test_a_picture_of_a_frame_is_that_of_the_slice(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """What is painted over which pixels is the same, whether slices come alone or as frames."""
    names = ("axial CT", "enhanced CT", "enhanced CT, frames in no order")
    pictures = []
    for name in names:
        _, written = made_on(name, tmp_path_factory.mktemp("picture"))
        pixels = written.read("SC").pixel_array
        pictures.append(pixels[: round(640 * 24 / 20)])  # the words below differ
    np.testing.assert_array_equal(pictures[0], pictures[1])
    np.testing.assert_array_equal(pictures[0], pictures[2])
