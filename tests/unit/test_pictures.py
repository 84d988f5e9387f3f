"""Pictures: windowed as the image says, in the body's proportions, with words that fit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from dicom_node.pictures import (
    Layer,
    captioned,
    grey_of,
    picture_of,
    pixel_aspect,
    segment_colour,
)
from tests.factories import make_instance, make_xray

RAMP = np.arange(64 * 64, dtype=np.int16).reshape(64, 64) - 1024


def test_a_window_says_what_is_black_and_what_is_white() -> None:
    grey = grey_of(make_instance(RAMP, WindowCenter=0, WindowWidth=200))
    assert grey[RAMP <= -100].max() == 0
    assert grey[RAMP >= 100].min() == 255
    assert grey[RAMP == 0] == pytest.approx(128, abs=1)


def test_the_first_of_several_windows_counts() -> None:
    two = make_instance(RAMP, WindowCenter=[0, 500], WindowWidth=[200, 100])
    one = make_instance(RAMP, WindowCenter=0, WindowWidth=200)
    np.testing.assert_array_equal(grey_of(two), grey_of(one))


def test_ct_without_a_window_is_shown_as_soft_tissue() -> None:
    grey = grey_of(make_instance(RAMP))
    assert grey[RAMP <= -160].max() == 0
    assert grey[RAMP >= 240].min() == 255


def test_an_xray_without_a_window_is_shown_from_its_darkest_to_its_brightest() -> None:
    grey = grey_of(make_xray())
    assert (grey.min(), grey.max()) == (0, 255)


def test_monochrome1_is_turned_over() -> None:
    plain = grey_of(make_xray())
    inverse = grey_of(make_xray(PhotometricInterpretation="MONOCHROME1"))
    np.testing.assert_array_equal(inverse, 255 - plain.astype(int))


@pytest.mark.parametrize(
    ("changes", "aspect"),
    [
        ({"PixelSpacing": [2.0, 1.0]}, 2.0),
        ({"PixelSpacing": None, "ImagerPixelSpacing": [0.5, 1.0]}, 0.5),
        ({"PixelSpacing": [0.0, 0.0], "PixelAspectRatio": [3, 2]}, 1.5),
        ({"PixelSpacing": None}, 1.0),
    ],
)
def test_pixels_keep_their_shape(changes: dict[str, Any], aspect: float) -> None:
    image = make_instance(RAMP, **changes)
    assert pixel_aspect(image) == aspect
    picture = picture_of(grey_of(image), [], pixel_aspect(image), 100)
    assert picture.height / picture.width == pytest.approx(aspect, rel=0.02)


def test_a_segment_is_outlined_where_it_lies() -> None:
    mask = np.zeros((64, 64), np.bool_)
    mask[10:20, 40:50] = True
    colour = segment_colour(1)
    picture = np.asarray(picture_of(np.zeros((64, 64), np.uint8), [Layer(mask, colour)], 1.0, 640))
    rows, columns = np.nonzero((picture == colour).all(axis=2))
    assert (rows.min(), rows.max()) == (100, 199)
    assert (columns.min(), columns.max()) == (400, 499)
    assert tuple(picture[150, 450]) == tuple(round(0.35 * part) for part in colour)


def test_long_words_are_broken_into_lines_and_a_banner_shrinks_until_it_fits() -> None:
    picture = picture_of(np.zeros((64, 64), np.uint8), [], 1.0, 400)
    short = captioned(picture, [("word", None)])
    long = captioned(picture, [("word " * 60, None)], "NOT FOR DIAGNOSTIC USE " * 2)
    assert short.width == long.width == 400
    assert long.height > short.height + 5 * 20
    banner = np.asarray(long)[:20]
    assert (banner[:, :4] == (160, 30, 30)).all(), "the words run over the edge"


def test_a_frame_is_shown_by_its_number_with_its_own_window() -> None:
    image = make_instance(RAMP)
    frames = np.stack([np.full_like(RAMP, -1000), RAMP])
    image.NumberOfFrames = 2
    image.PixelData = frames.tobytes()
    header = make_instance(RAMP, WindowCenter=0, WindowWidth=200)
    header.ReferencedFrameNumber = 2
    alone = grey_of(make_instance(RAMP, WindowCenter=0, WindowWidth=200))
    np.testing.assert_array_equal(grey_of(image, header), alone)
