"""What headers say of a series: gaps, and what is merely unusual."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from dicom_node.assemble.series import KEYWORDS, SeriesFacts, SeriesHeaders
from dicom_node.model import Attributes

AXIAL, SAGITTAL = ("1", "0", "0", "0", "1", "0"), ("0", "1", "0", "0", "0", "-1")


def slice_at(z: float, number: int = 0, **more: str) -> Attributes:
    return {
        "Modality": ("CT",),
        "InstanceNumber": (str(number),),
        "ImageOrientationPatient": AXIAL,
        "ImagePositionPatient": ("-100.5", "20", str(z)),
        **{keyword: tuple(text.split("\\")) for keyword, text in more.items()},
    }


def facts(headers: Sequence[Attributes]) -> SeriesFacts:
    series = SeriesHeaders()
    series.update({f"1.{index}": header for index, header in enumerate(headers)})
    return series.facts()


def stack(*places: float, **more: str) -> list[Attributes]:
    return [slice_at(z, index + 1, **more) for index, z in enumerate(places)]


def every(step: float, count: int, begin: float = 0.0) -> list[float]:
    return [begin + index * step for index in range(count)]


@pytest.mark.parametrize(
    ("headers", "gap"),
    [
        (stack(*every(2, 5), *every(2, 5, 12)), "slices are missing between 8.0 and 12.0 mm"),
        (
            stack(*(z for z in every(1.25, 40) if z not in (5, 6.25, 20))),
            "slices are missing between 3.8 and 7.5 mm, 18.8 and 21.2 mm",
        ),
        (
            stack(*every(6, 10), SpacingBetweenSlices="3"),
            "a slice every 6.00 mm, of one every 3.00 mm",
        ),
        (
            [*stack(*every(3, 8)) * 4, *stack(*every(3, 5))],
            "3 of 8 places have an image less than the others",
        ),
        (
            [{"InstanceNumber": (str(n),)} for n in range(1, 30) if n not in (4, 9)],
            "Instance Numbers 4, 9 are missing",
        ),
    ],
)
def test_a_gap_is_found_and_told(headers: list[Attributes], gap: str) -> None:
    assert facts(headers).gaps == (gap,)
    assert facts(headers).whole == ""
    assert facts(headers[::-1]).gaps == (gap,)


@pytest.mark.parametrize(
    ("headers", "whole"),
    [
        (stack(*every(2.5, 40)), "40 slices every 2.50 mm without a gap"),
        (stack(*every(0.699, 300)), "300 slices every 0.70 mm without a gap"),
        (stack(*every(3, 8)) * 4, "8 slices every 3.00 mm without a gap, 4 images each"),
        # numbers with holes, but no place is empty
        (
            [slice_at(2.0 * n, 3 * n) for n in range(20)],
            "20 slices every 2.00 mm without a gap",
        ),
        # two stacks, one for each acquisition
        (
            [
                *stack(*every(2, 9), AcquisitionNumber="1"),
                *stack(*every(2, 9, 40), AcquisitionNumber="2"),
            ],
            "18 slices every 2.00 mm without a gap",
        ),
        # a localizer beside the stack
        (
            [*stack(*every(2, 9)), slice_at(500, 99, ImageType="ORIGINAL\\PRIMARY\\LOCALIZER")],
            "9 slices every 2.00 mm without a gap",
        ),
        # too few to know, or unequal on purpose
        (stack(0, 2, 6, 8), ""),
        (stack(0, 1, 3, 7, 8, 12, 13, 19), ""),
        (stack(*every(2, 9)) + stack(*every(2, 4)), ""),
        ([{**slice_at(n, n), "ImageOrientationPatient": SAGITTAL} for n in range(3)], ""),
        # numbers that begin anywhere, skip widely or repeat
        ([{"InstanceNumber": (str(n),)} for n in range(101, 120)], ""),
        ([{"InstanceNumber": (str(n),)} for n in range(0, 200, 10)], ""),
        ([{"InstanceNumber": ("1",)} for _ in range(9)], ""),
        # nonsense
        ([{"ImagePositionPatient": ("a", "b"), "InstanceNumber": ("x",)} for _ in range(9)], ""),
        ([{"ImagePositionPatient": ("nan", "1", "2")} for _ in range(9)], ""),
        ([{}] * 9, ""),
        ([], ""),
    ],
)
def test_what_is_unusual_is_no_gap(headers: list[Attributes], whole: str) -> None:
    assert facts(headers).gaps == ()
    assert facts(headers).whole == whole


def test_acquisitions_and_counts_are_summed_up() -> None:
    said = facts(
        [
            slice_at(1, 1, AcquisitionNumber="1", ImagesInAcquisition="3"),
            slice_at(2, 2, AcquisitionNumber="1", ImagesInAcquisition="3", NumberOfFrames="2"),
            slice_at(3, 3, AcquisitionNumber="2", NumberOfSeriesRelatedInstances="9"),
        ]
    )
    one, two = said.acquisitions["1"], said.acquisitions["2"]
    assert (one.announced, one.instance_count, one.frame_count) == (3, 2, 3)
    assert (two.announced, two.instance_count, two.frame_count) == (0, 1, 1)
    assert said.series_counts == {9}
    assert (said.modality, said.known) == ("CT", 3)


def test_what_was_summed_up_stays_until_something_comes() -> None:
    series = SeriesHeaders()
    headers = {f"1.{n}": slice_at(n, n) for n in range(9)}
    series.update(headers)
    first = series.facts()
    series.update(headers)
    assert series.facts() is first
    series.update({"1.9": slice_at(9, 9)})
    assert series.facts().known == 10
    series.update({"1.9": slice_at(11, 9)})  # the same instance with another content
    assert series.facts().known == 10
    assert series.facts().gaps


def test_the_keywords_that_are_wanted_are_known_to_the_dictionary() -> None:
    from pydicom.datadict import tag_for_keyword

    assert [keyword for keyword in KEYWORDS if tag_for_keyword(keyword) is None] == []
