"""What a refusal means: that it is there already, or what an operator has to change."""

from __future__ import annotations

from dicom_node.errors import DeliveryError, PeerRefused
from dicom_node.model import Result
from dicom_node.scu.address import SOP_CLASS_NOT_SUPPORTED
from dicom_node.uid import LABELMAP_SEGMENTATION_STORAGE

_DUPLICATE_SOP_INSTANCE = 0x0111  # PS3.7 C.5.2


def understood(outcome: DeliveryError | str) -> DeliveryError | str:
    """Return an outcome; that of an archive that has it already is that it took it.

    It may have got it before an association broke. Whether it is the same is for the proof.
    """
    if isinstance(outcome, PeerRefused) and outcome.status == _DUPLICATE_SOP_INSTANCE:
        return f"it says that it has it already (0x{_DUPLICATE_SOP_INSTANCE:04X})"
    return outcome


def named(error: DeliveryError, destination: str, result: Result) -> DeliveryError:
    """Return a refusal of a SOP Class with the key that lets it not be sent; others as they are."""
    if not isinstance(error, PeerRefused) or error.status != SOP_CLASS_NOT_SUPPORTED:
        return error
    key = f"peers.{destination}.results"
    hint = f"have it accept this SOP Class, then retry; or choose another profile in {key}"
    if result.sop_class_uid == LABELMAP_SEGMENTATION_STORAGE:
        hint = f"set labelmap: false in its profile, or choose another one in {key}"
    return PeerRefused(error.message, status=error.status, retryable=error.retryable, hint=hint)
