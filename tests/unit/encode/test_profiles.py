"""Which tree a destination gets: by its profile, by the finding, by what it was seen to accept."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from pydicom.dataset import Dataset

from dicom_node.encode.drawing import drawing_of
from dicom_node.encode.profiles import PROFILES, Kind, Profile, rendition_for
from dicom_node.encode.seg import SegEncoding
from dicom_node.finding import Code, Finding, FindingKind, ValueMap
from tests.factories import make_ct_series, make_xray
from tests.unit.encode.findings import (
    classification,
    headers_of,
    overlapping,
    quality,
    segmentation,
)

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
