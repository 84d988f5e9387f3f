"""Which tree a destination gets: by its profile, by the finding, by what it was seen to accept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from pydicom.dataset import Dataset

from dicom_node.encode.drawing import drawing_of
from dicom_node.encode.profiles import PROFILES, Kind, Profile, rendition_for
from dicom_node.encode.seg import SegEncoding
from dicom_node.finding import Code, Finding, FindingKind, ValueMap
from dicom_node.multiframe import frames_of
from tests.factories import make_ct_series, make_enhanced, make_mr_series, make_xray
from tests.unit.encode.findings import (
    blobs,
    classification,
    headers_of,
    overlapping,
    probable,
    quality,
    segmentation,
)
from tests.unit.test_sources import PROJECTIONS

CT = headers_of(make_ct_series(6))
XRAY = headers_of([make_xray()])
LUNGS = segmentation(CT)
MAP = ValueMap(
    "Probability",
    np.zeros((6, 64, 64), np.float32),
    Code("122157", "DCM", "Probability"),
    Code("1", "UCUM", "no units"),
)
EMPTY = segmentation(CT, np.zeros((6, 64, 64), np.uint8))


def tree(
    profile: str | Profile,
    finding: Finding = LUNGS,
    sources: list[Dataset] = CT,
    accepts: bool = False,
) -> str:
    segmented = finding.kind is FindingKind.SEGMENTATION
    return rendition_for(
        PROFILES[profile] if isinstance(profile, str) else profile,
        finding,
        drawing_of(finding, sources) if segmented else None,
        sources[0],
        frozenset({SegEncoding.LABELMAP}) if accepts else frozenset(),
    ).text


@pytest.mark.parametrize(
    ("profile", "lungs", "nothing", "classified"),
    [
        ("default", "SEG+SR", "SR", "SR"),
        ("ohif", "SEG+SR", "SR", "SR"),
        ("slicer", "SEG+SR", "SR", "SR"),
        ("weasis", "SEG+KO+SR", "KO+SR", "KO+SR"),
        ("orthanc", "SEG+SR", "SR", "SR"),
        ("no-seg", "PR+SC+KO+SR", "PR+SC+KO+SR", "PR+SC+KO+SR"),
        ("sr-text-only", "SR", "SR", "SR"),
        ("everything", "SEG+PR+SC+KO+PDF+SR", "PR+SC+KO+PDF+SR", "PR+SC+KO+PDF+SR"),
    ],
)
def test_each_profile_has_its_objects(
    profile: str, lungs: str, nothing: str, classified: str
) -> None:
    assert tree(profile) == lungs
    assert tree(profile, EMPTY) == nothing
    assert tree(profile, classification(XRAY), XRAY) == classified
    assert tree(profile, quality(XRAY), XRAY) == classified


@pytest.mark.parametrize(
    ("labelmap", "accepts", "expected"),
    [
        (True, False, "LABELMAP+SR"),
        (True, True, "LABELMAP+SR"),
        ("auto", True, "LABELMAP+SR"),
        ("auto", False, "SEG+SR"),
        (False, True, "SEG+SR"),
    ],
)
def test_a_label_map_goes_where_it_is_known_to_be_accepted(
    labelmap: Any, accepts: bool, expected: str
) -> None:
    profile = replace(PROFILES["default"], labelmap=labelmap)
    assert tree(profile, accepts=accepts) == expected
    assert tree(profile, overlapping(CT), accepts=accepts) == "SEG+SR"


def test_more_frames_than_a_viewer_shows_become_outlines_and_pictures() -> None:
    assert tree(replace(PROFILES["weasis"], frames_max=12)) == "SEG+KO+SR"
    assert tree(replace(PROFILES["weasis"], frames_max=11)) == "PR+SC+KO+SR"
    pdf = replace(PROFILES["weasis"], frames_max=11, instead=frozenset({Kind.PDF}))
    assert tree(pdf) == "KO+PDF+SR"


def test_masks_on_x_rays_become_outlines_and_pictures_where_no_segmentation_is_shown() -> None:
    mask = np.zeros((1, 256, 256), np.uint8)
    mask[0, 20:60, 30:70] = 1
    drawn = segmentation(XRAY, mask)
    assert tree("default", drawn, XRAY) == "SEG+SR"
    assert tree("ohif", drawn, XRAY) == "PR+SC+SR"
    assert tree("ohif", segmentation(XRAY, np.zeros_like(mask)), XRAY) == "SR"


def test_a_label_map_has_fewer_frames() -> None:
    profile = replace(PROFILES["default"], frames_max=6, labelmap=True)
    assert tree(profile) == "LABELMAP+SR"
    assert tree(replace(profile, labelmap=False)) == "PR+SC+SR"


def test_maps_are_for_those_who_show_them_where_there_is_a_frame_of_reference() -> None:
    assert tree("slicer", replace(LUNGS, maps=(MAP,))) == "SEG+PM+SR"
    flat = replace(MAP, values=np.zeros((1, 256, 256), np.float32))
    assert tree("slicer", replace(classification(XRAY), maps=(flat,)), XRAY) == "SR"


def test_colour_is_captured_instead_of_presented() -> None:
    colour = headers_of([make_xray(SamplesPerPixel=3, PhotometricInterpretation="RGB")])
    profile = Profile(frozenset({Kind.PR, Kind.SR}))
    assert tree(profile, classification(colour), colour) == "SC+SR"
    assert tree(profile, classification(XRAY), XRAY) == "PR+SR"


# ------------------------------------------------------------ what each profile sends


def mr() -> list[Dataset]:
    return headers_of(make_mr_series(6))


def frames() -> list[Dataset]:
    """Return headers of the frames of an enhanced CT, as an engine is told of them."""
    return frames_of(*headers_of([make_enhanced(make_ct_series(6))]))


def ultrasound(**changes: Any) -> list[Dataset]:
    return headers_of([make_xray(**(PROJECTIONS["US"] | changes))])


def region(sources: list[Dataset]) -> Finding:
    mask = np.zeros((1, 256, 256), np.uint8)
    mask[0, 20:60, 30:70] = 1
    return segmentation(sources, mask)


def with_all(sources: list[Dataset]) -> Finding:
    """Return lungs of an engine that gives probabilities and a map, too."""
    return replace(probable(sources), maps=(MAP,))


COLOUR = {"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB"}
FOUND: dict[str, tuple[Callable[[], list[Dataset]], Callable[[list[Dataset]], Finding]]] = {
    "CT": (lambda: CT, segmentation),
    "CT, all an engine can give": (lambda: CT, with_all),
    "CT, overlapping": (lambda: CT, overlapping),
    "enhanced CT": (frames, with_all),
    "MR": (mr, segmentation),
    "X-ray, a region": (lambda: XRAY, region),
    "X-ray, a class": (lambda: XRAY, classification),
    "US": (ultrasound, classification),
    "US in colour": (lambda: ultrasound(**COLOUR), classification),
}
BOTH = frozenset({SegEncoding.LABELMAP, SegEncoding.FRACTIONAL})
SENT: dict[str, dict[str, str]] = {
    "default": {
        **dict.fromkeys(FOUND, "SEG+SR"),
        **dict.fromkeys(("X-ray, a class", "US", "US in colour"), "SR"),
    },
    "ohif": {
        **dict.fromkeys(FOUND, "LABELMAP+SR"),
        "CT, overlapping": "SEG+SR",
        "X-ray, a region": "PR+SC+SR",
        **dict.fromkeys(("X-ray, a class", "US", "US in colour"), "SR"),
    },
    "slicer": {
        **dict.fromkeys(FOUND, "SEG+SR"),
        **dict.fromkeys(("CT, all an engine can give", "enhanced CT"), "SEG+PM+SR"),
        **dict.fromkeys(("X-ray, a class", "US", "US in colour"), "SR"),
    },
    "weasis": {
        **dict.fromkeys(FOUND, "SEG+KO+SR"),
        **dict.fromkeys(("X-ray, a class", "US", "US in colour"), "KO+SR"),
    },
    "orthanc": {
        **dict.fromkeys(FOUND, "SEG+SR"),
        **dict.fromkeys(("X-ray, a class", "US", "US in colour"), "SR"),
    },
    "no-seg": {**dict.fromkeys(FOUND, "PR+SC+KO+SR"), "US in colour": "SC+KO+SR"},
    "sr-text-only": dict.fromkeys(FOUND, "SR"),
    "everything": {
        **dict.fromkeys(FOUND, "LABELMAP+PR+SC+KO+PDF+SR"),
        "CT, overlapping": "SEG+PR+SC+KO+PDF+SR",
        **dict.fromkeys(
            ("CT, all an engine can give", "enhanced CT"), "LABELMAP+PM+PR+SC+KO+PDF+SR"
        ),
        **dict.fromkeys(("X-ray, a class", "US"), "PR+SC+KO+PDF+SR"),
        "US in colour": "SC+KO+PDF+SR",
    },
}
"""What a destination gets that was seen to accept all encodings, by profile and finding."""


@pytest.mark.parametrize("found", FOUND)
@pytest.mark.parametrize("profile", PROFILES)
def test_what_each_profile_sends_of_each_finding(profile: str, found: str) -> None:
    make_sources, make = FOUND[found]
    sources = make_sources()
    finding = make(sources)
    drawing = drawing_of(finding, sources) if finding.mask is not None else None

    def sent(accepts: frozenset[SegEncoding]) -> str:
        return rendition_for(PROFILES[profile], finding, drawing, sources[0], accepts).text

    assert sent(BOTH) == SENT[profile][found]
    assert sent(frozenset()) == SENT[profile][found].replace("LABELMAP", "SEG")


@pytest.mark.parametrize(
    ("fractional", "labelmap", "accepts", "expected"),
    [
        (True, False, frozenset(), "FRACTIONAL+SR"),
        (True, True, BOTH, "FRACTIONAL+SR"),
        ("auto", False, BOTH, "FRACTIONAL+SR"),
        ("auto", False, frozenset(), "SEG+SR"),
        ("auto", "auto", frozenset({SegEncoding.LABELMAP}), "LABELMAP+SR"),
        (False, False, BOTH, "SEG+SR"),
    ],
)
def test_probabilities_go_to_those_who_want_and_take_them(
    fractional: Any, labelmap: Any, accepts: frozenset[SegEncoding], expected: str
) -> None:
    profile = replace(PROFILES["default"], fractional=fractional, labelmap=labelmap)
    finding = probable(CT)
    drawing = drawing_of(finding, CT)
    assert rendition_for(profile, finding, drawing, CT[0], accepts).text == expected
    certain = rendition_for(profile, LUNGS, drawing, CT[0], accepts).text
    assert certain == expected.replace("FRACTIONAL", "LABELMAP" if labelmap is True else "SEG")


def test_probabilities_have_frames_where_nothing_is_drawn() -> None:
    """Of both lungs in all six slices, 12 are drawn; each of them is somewhat likely in all."""
    finding = segmentation(CT, np.where(np.arange(6)[:, None, None] < 2, blobs(CT), 0))
    likely = replace(finding, probabilities=probable(CT).probabilities)
    profile = replace(PROFILES["weasis"], fractional=True, frames_max=11)
    assert tree(profile, finding) == "SEG+KO+SR"
    assert tree(profile, likely) == "PR+SC+KO+SR"
    assert tree(replace(profile, frames_max=12), likely) == "FRACTIONAL+KO+SR"
