"""The annotations of LIDC-IDRI: one XML file a scan, with what each of four readers has marked.

`LidcReadMessage` in the name space http://www.nih.gov holds a `readingSession` for each reader. In
it stand nodules (`unblindedReadNodule`), those of 3 mm and more with an outline on every slice
(`roi`) and characteristics from 1 to 5 or 6, smaller ones as one point; and what looks like a
nodule and is none (`nonNodule`), as one point. Coordinates are pixels of the slice, from 0.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from engines.recipes.errors import DataUnusable

_ROOT = "LidcReadMessage"
_HEADER = "ResponseHeader"


@dataclass(frozen=True, eq=False)
class Outline:
    """One region on one slice: `roi`."""

    sop_instance_uid: str
    z_mm: float
    """The z of (0020,0032) *Image Position (Patient)* of the slice."""
    is_within: bool
    """Whether what it encloses belongs to the nodule (`inclusion`), or is a hole in it."""
    points: NDArray[np.int64]
    """(points, 2): column and row of the first pixels outside the nodule, in order."""


@dataclass(frozen=True, eq=False)
class Mark:
    """One nodule as one reader has marked it."""

    reader: int
    """From 0."""
    name: str
    outlines: tuple[Outline, ...]
    characteristics: Mapping[str, int]
    """Empty for a nodule below 3 mm."""

    @property
    def malignancy(self) -> int | None:
        """From 1, highly unlikely, to 5, highly suspicious; 3 is indeterminate."""
        return self.characteristics.get("malignancy")


@dataclass(frozen=True, eq=False)
class Reading:
    """What all readers have marked in one scan."""

    file: str
    series_instance_uid: str
    readers: int
    nodules: tuple[Mark, ...]
    """Of 3 mm and more."""
    small: tuple[Mark, ...]
    """Below 3 mm: one point each."""
    others: tuple[Mark, ...]
    """No nodules: one point each."""


def read_annotations(file: Path) -> Reading | None:
    """Return the annotations in a file; None if it is XML of another kind, as those of X-rays.

    Raises
    ------
    DataUnusable
        If it is no XML, or something is missing in it.
    """
    try:
        root = ElementTree.parse(file).getroot()
    except (ElementTree.ParseError, OSError) as error:
        raise DataUnusable(
            f"{file.name} cannot be read: {error}", hint="fetch it again from the archive"
        ) from error
    if _name(root) != _ROOT:
        return None
    header = _one(root, _HEADER, file)
    series = next(
        (_text(one) for one in header if _name(one).casefold() == "seriesinstanceuid"), ""
    )
    if not series:
        raise DataUnusable(
            f"{file.name} does not say which series it is about",
            hint="fetch it again from the archive",
        )
    nodules: list[Mark] = []
    small: list[Mark] = []
    others: list[Mark] = []
    sessions = [one for one in root if _name(one) == "readingSession"]
    try:
        for reader, session in enumerate(sessions):
            for one in session:
                if _name(one) == "unblindedReadNodule":
                    mark = _nodule(one, reader)
                    (nodules if mark.characteristics else small).append(mark)
                elif _name(one) == "nonNodule":
                    outline = _outline(one, "locus")
                    others.append(Mark(reader, _child(one, "nonNoduleID"), (outline,), {}))
    except ValueError as error:
        raise DataUnusable(
            f"{file.name}: {error}", hint="fetch it again from the archive"
        ) from error
    return Reading(file.name, series, len(sessions), tuple(nodules), tuple(small), tuple(others))


def _nodule(element: ElementTree.Element, reader: int) -> Mark:
    outlines = tuple(_outline(one, "edgeMap") for one in _all(element, "roi"))
    if not outlines:
        raise ValueError(f"nodule {_child(element, 'noduleID')} has no roi")
    given = next(_all(element, "characteristics"), None)
    values = {} if given is None else {_name(one): int(_text(one)) for one in given if _text(one)}
    # Some sites wrote characteristics of small nodules too; what is one point has no outline.
    is_point = len(outlines) == 1 and len(outlines[0].points) == 1
    return Mark(reader, _child(element, "noduleID"), outlines, {} if is_point else values)


def _outline(element: ElementTree.Element, point: str) -> Outline:
    points = [
        [int(_child(one, axis)) for axis in ("xCoord", "yCoord")] for one in _all(element, point)
    ]
    if not points:
        raise ValueError(f"a {_name(element)} without {point}")
    return Outline(
        sop_instance_uid=_child(element, "imageSOP_UID"),
        z_mm=float(_child(element, "imageZposition")),
        is_within=_child(element, "inclusion", "TRUE").upper() == "TRUE",
        points=np.array(points),
    )


def _one(element: ElementTree.Element, name: str, file: Path) -> ElementTree.Element:
    found = next(_all(element, name), None)
    if found is None:
        raise DataUnusable(f"{file.name} has no {name}", hint="fetch it again from the archive")
    return found


def _all(element: ElementTree.Element, name: str) -> Iterator[ElementTree.Element]:
    return (one for one in element if _name(one) == name)


def _child(element: ElementTree.Element, name: str, missing: str | None = None) -> str:
    found = next(_all(element, name), None)
    if found is not None:
        return _text(found)
    if missing is None:
        raise ValueError(f"a {_name(element)} without {name}")
    return missing


def _name(element: ElementTree.Element) -> str:
    return element.tag.rsplit("}", 1)[-1]


def _text(element: ElementTree.Element) -> str:
    return (element.text or "").strip()
