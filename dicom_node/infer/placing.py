"""Where a slice lies in the patient, as its header says."""

from __future__ import annotations

import numpy as np
from pydicom.dataset import Dataset

from dicom_node.errors import StudyUnusable
from dicom_node.geometry import Plane
from dicom_node.headers import reading


def plane_of(header: Dataset, name: str) -> Plane:
    """Return where a slice lies.

    Parameters
    ----------
    header : pydicom.Dataset
        Of a single-frame image, or of a frame.
    name : str
        What it is called in a message.

    Raises
    ------
    StudyUnusable
        If it does not say, or says what cannot be.
    """
    position = _numbers(header, name, "ImagePositionPatient", 3)
    orientation = _numbers(header, name, "ImageOrientationPatient", 6)
    spacing = _numbers(header, name, "PixelSpacing", 2)
    along_row, down_column = np.array(orientation[:3]), np.array(orientation[3:])
    lengths = np.linalg.norm(along_row), np.linalg.norm(down_column)
    if not np.allclose(lengths, 1.0, atol=0.01) or abs(along_row @ down_column) > 0.01:
        raise StudyUnusable(
            f"instance {name}: Image Orientation (Patient) is no pair of unit "
            "vectors at right angles"
        )
    if min(spacing) <= 0:
        raise StudyUnusable(f"instance {name}: Pixel Spacing is not positive")
    unit = tuple(float(v) for v in (*along_row / lengths[0], *down_column / lengths[1]))
    return Plane(
        position_mm=(position[0], position[1], position[2]),
        orientation=(unit[0], unit[1], unit[2], unit[3], unit[4], unit[5]),
        rows=int(header.Rows),
        columns=int(header.Columns),
        pixel_spacing_mm=(spacing[0], spacing[1]),
    )


def _numbers(header: Dataset, name: str, keyword: str, count: int) -> list[float]:
    value = header.get(keyword)
    if value is None or value == "":
        raise StudyUnusable(f"instance {name}: {keyword} is missing")
    with reading(f"{keyword} of instance {name}"):
        numbers = [float(number) for number in value]
    if len(numbers) != count or not np.all(np.isfinite(numbers)):
        raise StudyUnusable(f"instance {name}: {keyword} does not hold {count} numbers")
    return numbers
