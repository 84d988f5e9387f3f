"""What can be wrong with data that a network is to learn from."""

from __future__ import annotations

from dicom_node.errors import DicomNodeError


class DataUnusable(DicomNodeError):
    """A data set is not what its loader reads; the hint says who has to do what."""


class DataLeaks(DataUnusable):
    """Training, validation and test share what they must not share."""
