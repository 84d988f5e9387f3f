"""Where the slices of a mask lie, and which image each was drawn on (PS3.3 C.7.6.16)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from highdicom.spatial import VOLUME_INDEX_CONVENTION, get_normal_vector, get_volume_positions
from pydicom.dataset import Dataset

from dicom_node.encode import codes
from dicom_node.encode.content import decimal
from dicom_node.encode.explicit import coded, item, sequence, text
from dicom_node.encode.sources import reference_of
from dicom_node.errors import InvariantBroken


@dataclass(frozen=True, eq=False)
class Planes:
    """The slices of a mask, by their index in it."""

    order: tuple[int, ...]
    """In which their frames follow each other: along the normal, head to feet for axial ones."""
    positions: tuple[tuple[float, ...], ...]
    """Image Position (Patient) each, LPS mm; none where the image is a projection."""
    orientation: tuple[float, ...]
    derivations: tuple[bytes, ...]
    """Derivation Image Sequence each."""
    positions_said: tuple[bytes, ...]
    """Plane Position Sequence each; empty where the image is a projection."""

    def are_regular(self, indices: Sequence[int]) -> bool:
        """Return whether slices, in the order of the mask, follow each other at one distance."""
        if not self.positions or len(indices) < 2:
            return False
        spacing, _ = get_volume_positions(
            image_positions=[self.positions[index] for index in indices],
            image_orientation=self.orientation,
            sort=False,
        )
        return spacing is not None and bool(spacing > 0)


def planes_of(copies: Sequence[Dataset]) -> Planes:
    """Return the slices of a mask, in the order of the copies of its sources.

    Raises
    ------
    InvariantBroken
        If two lie at one place, or there are several that have none.
    """
    derivations = tuple(_derivation(copy) for copy in copies)
    if "ImagePositionPatient" not in copies[0]:
        if len(copies) > 1:
            raise InvariantBroken("one mask of several images that have no place in the patient")
        return Planes((0,), (), (), derivations, (b"",))
    orientation = tuple(float(cosine) for cosine in copies[0].ImageOrientationPatient)
    positions = tuple(tuple(map(float, copy.ImagePositionPatient)) for copy in copies)
    normal = get_normal_vector(orientation, index_convention=VOLUME_INDEX_CONVENTION)
    distances, order = np.unique(normal @ np.array(positions).T, return_index=True)
    if len(distances) != len(copies):
        raise InvariantBroken("a mask has two slices at one place")
    return Planes(
        order=tuple(map(int, order)),
        positions=positions,
        orientation=orientation,
        derivations=derivations,
        positions_said=tuple(_position(copy) for copy in copies),
    )


def _derivation(copy: Dataset) -> bytes:
    named = reference_of(copy)
    frame = "" if named.frame_number is None else str(named.frame_number)
    source = item(
        text("ReferencedSOPClassUID", named.sop_class_uid),
        text("ReferencedSOPInstanceUID", named.sop_instance_uid),
        text("ReferencedFrameNumber", frame) if frame else b"",
        text("SpatialLocationsPreserved", "YES"),
        coded("PurposeOfReferenceCodeSequence", codes.SOURCE_IMAGE),
    )
    derived = item(
        sequence("SourceImageSequence", source),
        coded("DerivationCodeSequence", codes.SEGMENTATION),
    )
    return sequence("DerivationImageSequence", derived)


def _position(copy: Dataset) -> bytes:
    place = "\\".join(decimal(mm) for mm in copy.ImagePositionPatient)
    return sequence("PlanePositionSequence", item(text("ImagePositionPatient", place)))
