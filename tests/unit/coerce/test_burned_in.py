"""The policy on burned-in annotation, case by case."""

from __future__ import annotations

from typing import Any

import pytest
from pydicom.uid import (
    BasicVoiceAudioWaveformStorage,
    CTImageStorage,
    DigitalXRayImageStorageForPresentation,
    EncapsulatedPDFStorage,
    EnhancedMRImageStorage,
    RawDataStorage,
    SecondaryCaptureImageStorage,
    SegmentationStorage,
    TwelveLeadECGWaveformStorage,
    UltrasoundImageStorage,
)

from dicom_node.coerce.burned_in import check_burned_in
from dicom_node.coerce.profile import BurnedIn
from dicom_node.errors import StudyUnusable
from tests.factories import make_instance

REFUSE, DECLARED, FORWARD = BurnedIn


@pytest.mark.parametrize(
    ("sop_class_uid", "image_type", "declared", "forwarded_by"),
    [
        (CTImageStorage, ["ORIGINAL", "PRIMARY", "AXIAL"], None, {REFUSE, FORWARD}),
        (CTImageStorage, ["DERIVED", "PRIMARY", "MPR"], None, {REFUSE, FORWARD}),
        (CTImageStorage, ["DERIVED", "SECONDARY"], None, {FORWARD}),
        (CTImageStorage, ["ORIGINAL", "PRIMARY", "SCREEN SAVE"], None, {FORWARD}),
        (CTImageStorage, None, None, {FORWARD}),
        (CTImageStorage, ["ORIGINAL", "PRIMARY"], "YES", {FORWARD}),
        (CTImageStorage, ["DERIVED", "SECONDARY"], "NO", set(BurnedIn)),
        (EnhancedMRImageStorage, ["ORIGINAL", "PRIMARY"], None, {REFUSE, FORWARD}),
        (SegmentationStorage, ["DERIVED", "PRIMARY"], None, {REFUSE, FORWARD}),
        (UltrasoundImageStorage, ["ORIGINAL", "PRIMARY"], None, {FORWARD}),
        (UltrasoundImageStorage, ["ORIGINAL", "PRIMARY"], "NO", set(BurnedIn)),
        (SecondaryCaptureImageStorage, ["DERIVED", "SECONDARY"], None, {FORWARD}),
        (DigitalXRayImageStorageForPresentation, ["ORIGINAL", "PRIMARY"], None, {FORWARD}),
        (DigitalXRayImageStorageForPresentation, ["ORIGINAL", "PRIMARY"], "NO", set(BurnedIn)),
        (DigitalXRayImageStorageForPresentation, ["ORIGINAL", "PRIMARY"], "Doe^J", {FORWARD}),
        (EncapsulatedPDFStorage, None, "NO", set()),
        (RawDataStorage, None, "NO", set()),
        (BasicVoiceAudioWaveformStorage, None, "NO", set()),
        (TwelveLeadECGWaveformStorage, None, None, {REFUSE, FORWARD}),
    ],
)
def test_who_forwards_what(
    sop_class_uid: str, image_type: Any, declared: str | None, forwarded_by: set[BurnedIn]
) -> None:
    dataset = make_instance(SOPClassUID=sop_class_uid, ImageType=image_type)
    if declared is not None:
        dataset.BurnedInAnnotation = declared
    for policy in BurnedIn:
        if policy in forwarded_by:
            check_burned_in(dataset, policy)
        else:
            with pytest.raises(StudyUnusable, match="not forwarded") as refused:
                check_burned_in(dataset, policy)
            assert "Doe" not in refused.value.message
            assert refused.value.hint


def test_an_overlay_in_the_bits_of_the_pixels_counts_as_burned_in() -> None:
    dataset = make_instance(BurnedInAnnotation="NO")
    dataset.add_new(0x60020100, "US", 16)
    with pytest.raises(StudyUnusable, match="overlay"):
        check_burned_in(dataset, REFUSE)
    assert check_burned_in(dataset, FORWARD)
