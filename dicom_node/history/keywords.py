"""Which header attributes are kept, and in which form."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from dicom_node.conditions.keywords import identifies, is_bulk, is_ours
from dicom_node.model import Attributes

HASHED = "#"
"""Behind a keyword: what is kept is a keyed hash of its values."""

_USUAL = """
    SOPClassUID Modality ImageType PresentationIntentType BodyPartExamined
    Laterality ImageLaterality ViewPosition PatientPosition PatientOrientation
    StudyDate StudyTime SeriesDate SeriesTime AcquisitionDate AcquisitionTime ContentDate
    StudyDescription SeriesDescription ProtocolName PerformedProcedureStepDescription
    RequestedProcedureDescription RequestedProcedurePriority InstitutionName
    InstitutionalDepartmentName StationName Manufacturer ManufacturerModelName
    DeviceSerialNumber SoftwareVersions
    PatientID PatientName PatientBirthDate AccessionNumber PatientSex PatientAge
    SeriesNumber AcquisitionNumber InstanceNumber ImagesInAcquisition
    NumberOfStudyRelatedSeries NumberOfStudyRelatedInstances NumberOfSeriesRelatedInstances
    ImagePositionPatient ImageOrientationPatient SliceLocation SliceThickness
    SpacingBetweenSlices PixelSpacing GantryDetectorTilt FrameOfReferenceUID
    Rows Columns NumberOfFrames SamplesPerPixel PhotometricInterpretation BitsStored
    PixelRepresentation RescaleSlope RescaleIntercept RescaleType LossyImageCompression
    BurnedInAnnotation KVP ConvolutionKernel ReconstructionDiameter
    ContrastBolusAgent ScanningSequence SequenceVariant ScanOptions MRAcquisitionType
    MagneticFieldStrength RepetitionTime EchoTime InversionTime FlipAngle EchoNumbers
    DiffusionBValue TemporalPositionIdentifier NumberOfTemporalPositions
"""
DEFAULT_KEYWORDS = frozenset(_USUAL.split())
"""What rules and completeness usually ask for."""


@dataclass(frozen=True)
class KeepPolicy:
    """What is kept of a header.

    Parameters
    ----------
    more : collection of str
        Keywords beside the usual ones: those that the rules ask for, those that are configured.
    clear : collection of str
        Those that identify a patient and are kept as they are all the same.
    key : bytes
        Of the hashes of all others that identify.
    """

    more: frozenset[str] = frozenset()
    clear: frozenset[str] = frozenset()
    key: bytes = b""

    @cached_property
    def keywords(self) -> frozenset[str]:
        """What is looked for in a header."""
        return DEFAULT_KEYWORDS | of_headers(self.more) | self.clear

    def kept(self, attributes: Attributes) -> Attributes:
        """Return attributes as they are kept: who the patient is only as a hash."""
        kept: dict[str, tuple[str, ...]] = {}
        for keyword, values in attributes.items():
            if keyword in self.clear or not identifies(keyword):
                kept[keyword] = values
            else:
                kept[keyword + HASHED] = tuple(self.hashed(value) for value in values if value)
        return kept

    def hashed(self, value: str) -> str:
        """Return a keyed hash of a value; case and blanks around it do not matter."""
        text = value.strip().casefold().encode()
        return hmac.new(self.key, text, hashlib.sha256).hexdigest()[:32]


def of_headers(keywords: Iterable[str]) -> frozenset[str]:
    """Return those that a header can have."""
    return frozenset(k for k in keywords if not is_ours(k) and not is_bulk(k))


def not_kept(keywords: Iterable[str], policy: KeepPolicy) -> frozenset[str]:
    """Return those that have to be read from the files: not kept, or only as a hash."""
    wanted = of_headers(keywords)
    hashed = {k for k in wanted if identifies(k) and k not in policy.clear}
    return (wanted - policy.keywords) | hashed
