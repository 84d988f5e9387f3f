"""What headers say of slices: how they lie and at how many places."""

from __future__ import annotations

import pytest

from dicom_node.slices import orientation_of, slice_count

AXIAL = ("1", "0", "0", "0", "1", "0")
CORONAL = ("1", "0", "0", "0", "0", "-1")
SAGITTAL = ("0", "1", "0", "0", "0", "-1")


@pytest.mark.parametrize(
    ("cosines", "name"),
    [
        (AXIAL, "axial"),
        (("-1", "0", "0", "0", "-1", "0"), "axial"),  # prone
        (("1.000000", "-0.0", "0", "0", "1", "1e-6"), "axial"),
        (CORONAL, "coronal"),
        (SAGITTAL, "sagittal"),
        (("1", "0", "0", "0", "0.809", "-0.588"), "axial"),  # 36 degrees of tilt
        (("1", "0", "0", "0", "0.788", "-0.616"), "oblique"),  # 38
        (("0.7071", "0.7071", "0", "0", "0", "-1"), "oblique"),
        ((), ""),
        (AXIAL[:5], ""),
        ((*AXIAL, "0"), ""),
        (("1", "0", "0", "1", "0", "0"), ""),  # rows along columns have no normal
        (("0",) * 6, ""),
        (("a", "0", "0", "0", "1", "0"), ""),
        (("1", "nan", "0", "0", "1", "0"), ""),
        (("inf", "0", "0", "0", "1", "0"), ""),
        (("1e200", "0", "0", "0", "1e200", "0"), ""),
    ],
)
def test_slices_are_called_after_their_normal(cosines: tuple[str, ...], name: str) -> None:
    assert orientation_of(cosines) == name


@pytest.mark.parametrize(
    ("places", "count"),
    [
        ([], 0),
        ([(AXIAL, ("0", "0", "5"))], 1),
        ([(AXIAL, ("0", "0", str(z))) for z in (0, 5, 10)], 3),
        ([(AXIAL, ("0", "0", str(z))) for z in (10, 0, 5, 0, 10)], 3),  # two at one place
        ([(AXIAL, (str(x), "7", "5")) for x in (0, 50)], 1),  # beside each other
        ([(AXIAL, ("0", "0", "5")), (SAGITTAL, ("0", "0", "5"))], 2),  # of a localizer
        ([(AXIAL, ("0", "0", "5.0001")), (AXIAL, ("0", "0", "5"))], 1),  # as it is rounded
        ([(CORONAL, ("0", str(y), "0")) for y in (-1, 0, 1)], 3),
        ([(AXIAL, ("0", "0", "x")), (AXIAL, ("0", "0")), ((), ("0", "0", "1"))], 0),
        ([(AXIAL, ("0", "0", "nan")), (AXIAL, ("0", "0", "-inf"))], 0),
    ],
)
def test_positions_are_counted_along_the_normal(
    places: list[tuple[tuple[str, ...], tuple[str, ...]]], count: int
) -> None:
    assert slice_count(places) == count
