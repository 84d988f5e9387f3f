"""Files in memory, and what pydicom says of their attributes."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from io import BytesIO
from typing import BinaryIO

from pydicom.datadict import tag_for_keyword
from pydicom.filereader import read_partial

from dicom_node.attributes import AttributesReader
from dicom_node.errors import StudyUnusable
from dicom_node.headers import Part10, attributes_of, read_header_of, reading
from dicom_node.model import Attributes

KEYWORDS = frozenset(
    [
        "SpecificCharacterSet",
        "ImageType",
        "InstanceCreationDate",
        "InstanceCreationTime",
        "SOPClassUID",
        "SOPInstanceUID",
        "StudyDate",
        "SeriesDate",
        "AcquisitionDate",
        "ContentDate",
        "AcquisitionDateTime",
        "StudyTime",
        "SeriesTime",
        "AcquisitionTime",
        "ContentTime",
        "AccessionNumber",
        "Modality",
        "ModalitiesInStudy",
        "ConversionType",
        "PresentationIntentType",
        "Manufacturer",
        "InstitutionName",
        "ReferringPhysicianName",
        "StationName",
        "StudyDescription",
        "SeriesDescription",
        "OperatorsName",
        "ManufacturerModelName",
        "RetrieveAETitle",
        "PatientName",
        "PatientID",
        "PatientBirthDate",
        "PatientSex",
        "PatientAge",
        "PatientSize",
        "PatientWeight",
        "PatientComments",
        "BodyPartExamined",
        "ScanningSequence",
        "ContrastBolusAgent",
        "SliceThickness",
        "KVP",
        "SpacingBetweenSlices",
        "DataCollectionDiameter",
        "EchoTime",
        "RepetitionTime",
        "MagneticFieldStrength",
        "SoftwareVersions",
        "ProtocolName",
        "ReconstructionDiameter",
        "GantryDetectorTilt",
        "ExposureTime",
        "XRayTubeCurrent",
        "Exposure",
        "FilterType",
        "ConvolutionKernel",
        "PatientPosition",
        "ViewPosition",
        "StudyInstanceUID",
        "SeriesInstanceUID",
        "StudyID",
        "SeriesNumber",
        "AcquisitionNumber",
        "InstanceNumber",
        "ImagePositionPatient",
        "ImageOrientationPatient",
        "FrameOfReferenceUID",
        "Laterality",
        "SliceLocation",
        "ImagesInAcquisition",
        "NumberOfFrames",
        "FrameIncrementPointer",
        "SamplesPerPixel",
        "PhotometricInterpretation",
        "Rows",
        "Columns",
        "PixelSpacing",
        "BitsAllocated",
        "PixelRepresentation",
        "SmallestImagePixelValue",
        "PixelPaddingValue",
        "WindowCenter",
        "WindowWidth",
        "RescaleIntercept",
        "RescaleSlope",
        "RescaleType",
        "LossyImageCompression",
        "RequestedProcedureDescription",
    ]
)

Outcome = Attributes | str


@dataclass
class InMemory:
    """A Part 10 file of these bytes, which counts how many of them are read."""

    content: bytes
    name: str = "in memory"
    opened: list[Counting] = field(default_factory=list)

    def open(self, mode: str = "rb") -> BinaryIO:
        self.opened.append(Counting(self.content))
        return self.opened[-1]

    def read_bytes(self) -> bytes:
        return self.content


class Counting(BytesIO):
    def __init__(self, content: bytes) -> None:
        super().__init__(content)
        self.bytes_read = 0

    def read(self, size: int | None = -1, /) -> bytes:
        read = super().read(size)
        self.bytes_read += len(read)
        return read


def reading_by(reader: AttributesReader) -> Callable[[Part10, Collection[str]], Attributes]:
    """Return how a reader reads, which has its keywords already."""
    return lambda file, _: reader.read(file)


def outcome(
    read: Callable[[Part10, Collection[str]], Attributes], file: Part10, keywords: Collection[str]
) -> Outcome:
    """Return the attributes, or why there are none."""
    try:
        return dict(read(file, keywords))
    except StudyUnusable as error:
        return f"{error.message} ({error.hint})"
    except OSError as error:  # pydicom misses an item
        return type(error).__name__


def by_pydicom(file: Part10, keywords: Collection[str]) -> Attributes:
    """Return the attributes as pydicom reads them, on to the pixels."""
    return attributes_of([read_header_of(file, keywords)])


def ahead_by_pydicom(file: Part10, keywords: Collection[str]) -> Attributes:
    """Return the same if pydicom stops at the first element beyond the last that is wanted."""
    tags = [0x00080005, *(tag_for_keyword(keyword) or 0 for keyword in keywords)]
    with reading("the header"):
        header = read_partial(
            file.open("rb"),
            stop_when=lambda tag, vr, length: max(tags) < tag,
            force=True,
            specific_tags=list(tags),
        )
        header.decode()
        return attributes_of([header])
