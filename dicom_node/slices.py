"""What headers alone say of the slices of a series: how they lie, and at how many positions.

For rules and counts, where texts come from headers and nothing may be refused; the grid that an
engine works on is made by `geometry`, strictly.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from dicom_node.geometry import SAME_POSITION_MM

_PLAIN_COSINE_MIN = 0.8
"""Within 37 degrees of the axis: what a radiographer still calls axial."""
_NAMES = ("sagittal", "coronal", "axial")

_LARGEST = 1e9
"""Nothing of a patient is so large: neither NaN nor infinity, nor what overflows."""

_Vector = tuple[float, float, float]


def orientation_of(cosines: Sequence[str]) -> str:
    """Return axial, coronal, sagittal or oblique; empty if the cosines are none.

    Parameters
    ----------
    cosines : sequence of str
        (0020,0037) *Image Orientation (Patient)* (PS3.3 C.7.6.2.1.1).
    """
    normal = _normal(cosines)
    if normal is None:
        return ""
    along = [abs(part) for part in normal]
    largest = max(along)
    return _NAMES[along.index(largest)] if largest >= _PLAIN_COSINE_MIN else "oblique"


def slice_count(places: Iterable[tuple[Sequence[str], Sequence[str]]]) -> int:
    """Return at how many positions along their normal the slices of a series lie.

    Parameters
    ----------
    places : iterable of (orientation, position)
        (0020,0037) and (0020,0032) of each instance; those that are no numbers are left out.
    """
    by_normal: dict[_Vector, list[float]] = {}
    for orientation, position in places:
        normal, point = _normal(orientation), _vector(position)
        if normal is None or point is None:
            continue
        key = (round(normal[0], 2), round(normal[1], 2), round(normal[2], 2))
        by_normal.setdefault(key, []).append(_dot(normal, point))
    return sum(_distinct(sorted(along)) for along in by_normal.values())


def _distinct(along: Sequence[float]) -> int:
    last, count = float("-inf"), 0
    for one in along:
        if one - last >= SAME_POSITION_MM:
            last, count = one, count + 1
    return count


def _normal(cosines: Sequence[str]) -> _Vector | None:
    row, column = _vector(cosines[:3]), _vector(cosines[3:])
    if row is None or column is None:
        return None
    normal = (
        row[1] * column[2] - row[2] * column[1],
        row[2] * column[0] - row[0] * column[2],
        row[0] * column[1] - row[1] * column[0],
    )
    length = _dot(normal, normal) ** 0.5
    if length < 0.5:
        return None
    return (normal[0] / length, normal[1] / length, normal[2] / length)


def _vector(texts: Sequence[str]) -> _Vector | None:
    try:
        first, second, third = (float(text) for text in texts)
    except ValueError:  # no numbers, or not three
        return None
    vector = (first, second, third)
    return vector if all(abs(part) < _LARGEST for part in vector) else None


def _dot(one: _Vector, other: _Vector) -> float:
    return one[0] * other[0] + one[1] * other[1] + one[2] * other[2]
