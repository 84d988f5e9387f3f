"""Copies of the source headers that highdicom can be given: complete, valid, in UTF-8.

Theory of operation: highdicom copies the patient and study modules of its first source verbatim,
and fails on sources that hospitals really send: no Patient ID, ISO 2022 character sets, slices
whose orientation differs in the seventh digit. So it never sees a source, only what is made here:

* the first copy carries everything that can be inherited; the others only their place;
* the frames of a multi-frame source are copies each, and pass for single-frame instances with UIDs
  of their own (`_stand_in`); `reference_of` says how they are named in what we write;
* identifying text and UIDs are kept as they are; dates, ages and code strings that break their VR
  are left out;
* what highdicom would take from the scanner and get wrong is replaced by what was measured.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy as copy_of
from copy import deepcopy
from dataclasses import dataclass

from highdicom.spatial import get_volume_positions
from pydicom import config
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    CTImageStorage,
    EnhancedCTImageStorage,
    EnhancedPETImageStorage,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLSNearLossless,
    LegacyConvertedEnhancedCTImageStorage,
    LegacyConvertedEnhancedPETImageStorage,
    MRImageStorage,
    PositronEmissionTomographyImageStorage,
)
from pydicom.valuerep import DS, validate_value

from dicom_node.multiframe import frame_number_of
from dicom_node.uid import derived_uid

TYPE_2 = (
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "AccessionNumber",
    "StudyID",
    "StudyDate",
    "StudyTime",
    "ReferringPhysicianName",
)
"""Required but possibly empty in every result (PS3.3 C.7.1.1, C.7.2.1)."""

_PLACE = (
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "SOPInstanceUID",
    "SOPClassUID",
    "Modality",
    "Rows",
    "Columns",
    "FrameOfReferenceUID",
    "ImageOrientationPatient",
    "ImagePositionPatient",
    "PixelSpacing",
    "SliceThickness",
    "ReferencedFrameNumber",
)
_CHECKED_VR = frozenset({"AS", "CS", "DA", "DT", "TM"})
_OLD_SEPARATOR = {"DA": ".", "TM": ":"}
"""Of ACR-NEMA, 1995.07.20 and 11:22:07; readers should know it, writers must not use it."""
_LOSSY_METHODS = {  # (0028,2114), PS3.3 C.7.6.1.1.5.1
    JPEGBaseline8Bit: "ISO_10918_1",
    JPEGExtended12Bit: "ISO_10918_1",
    JPEGLSNearLossless: "ISO_14495_1",
    JPEG2000: "ISO_15444_1",
    HTJ2K: "ISO_15444_15",
}

_SINGLE_FRAME = {
    EnhancedCTImageStorage: CTImageStorage,
    LegacyConvertedEnhancedCTImageStorage: CTImageStorage,
    EnhancedPETImageStorage: PositronEmissionTomographyImageStorage,
    LegacyConvertedEnhancedPETImageStorage: PositronEmissionTomographyImageStorage,
}
"""What a frame passes for; MR in all other cases: a volume with a frame of reference."""


@dataclass(frozen=True)
class Reference:
    """How a result names one of its sources (PS3.3 Table 10-3)."""

    sop_class_uid: str
    sop_instance_uid: str
    frame_number: int | None
    """None for a single-frame instance."""


def reference_of(copy: Dataset) -> Reference:
    """Return how a copy of `copies_of` is to be named in what is built on it."""
    number = frame_number_of(copy)
    if number is None:
        return Reference(str(copy.SOPClassUID), str(copy.SOPInstanceUID), None)
    return Reference(str(copy.ReferencedSOPClassUID), str(copy.ReferencedSOPInstanceUID), number)


def instances_of(copies: Sequence[Dataset]) -> list[Dataset]:
    """Return one copy for each source instance, under its own UIDs: the evidence of a report."""
    instances: dict[str, Dataset] = {}
    for copy in copies:
        reference = reference_of(copy)
        if reference.sop_instance_uid in instances:
            continue
        instance = copy
        if reference.frame_number is not None:
            instance = Dataset({element.tag: element for element in copy})
            instance.add_new("SOPClassUID", "UI", reference.sop_class_uid)
            instance.add_new("SOPInstanceUID", "UI", reference.sop_instance_uid)
        instances[reference.sop_instance_uid] = instance
    return list(instances.values())


def name_sources(dataset: Dataset, copies: Sequence[Dataset]) -> None:
    """Replace stand-ins, wherever a data set built on copies of frames names them.

    A list of instances names each once and whole; a frame's derivation names the frame.
    """
    by_stand_in = {
        str(copy.SOPInstanceUID): reference_of(copy)
        for copy in copies
        if frame_number_of(copy) is not None
    }
    if by_stand_in:
        _name_sources(dataset, by_stand_in, with_frames=False)


def copies_of(sources: Sequence[Dataset]) -> list[Dataset]:
    """Return copies of source headers for highdicom; the sources themselves are left alone.

    Parameters
    ----------
    sources : sequence of Dataset
        Headers of one series, decoded, not empty.

    Returns
    -------
    list of Dataset
        In the same order. The first has every attribute of its source but private ones, and all
        of type 2; the others only their identity and geometry. That of a frame has a SOP Instance
        UID and SOP Class of its own; `reference_of` tells the true ones.
    """
    first = _cleaned(sources[0])
    copies = [first, *(_placed(source) for source in sources[1:])]
    _complete(first)
    _describe_compression(first, sources)
    for copy in copies:
        _settle_geometry(copy, first)
        _stand_in(copy)
    spacing_mm = slice_spacing_mm(copies)
    if spacing_mm is not None:
        for copy in copies:
            copy.SpacingBetweenSlices = DS(spacing_mm, auto_format=True)
            if copy.get("SliceThickness") is None:
                copy.SliceThickness = copy.SpacingBetweenSlices
    return copies


def slice_spacing_mm(copies: Sequence[Dataset]) -> float | None:
    """Return the distance of the slices along their normal, or None where it is not one number."""
    if len(copies) < 2 or any("ImagePositionPatient" not in copy for copy in copies):
        return None
    spacing, _ = get_volume_positions(
        image_positions=[[float(mm) for mm in copy.ImagePositionPatient] for copy in copies],
        image_orientation=[float(cosine) for cosine in copies[0].ImageOrientationPatient],
    )
    return None if spacing is None else float(spacing)


def _cleaned(dataset: Dataset) -> Dataset:
    clean = Dataset()
    for element in dataset:
        if element.tag.is_private or element.tag.element == 0:  # a group length
            continue
        if element.keyword == "SpecificCharacterSet":  # the text is decoded; we write UTF-8
            continue
        if element.VR == "SQ":
            items = [_cleaned(item) for item in element.value]
            clean.add(DataElement(element.tag, "SQ", items))
            continue
        copy = copy_of(element)
        separator = _OLD_SEPARATOR.get(element.VR)
        if separator and isinstance(copy.value, str) and separator in copy.value:
            copy.value = copy.value.replace(separator, "")
        if _is_valid(copy):
            clean.add(copy)
    return clean


def _placed(dataset: Dataset) -> Dataset:
    placed = Dataset()
    for keyword in _PLACE:
        if keyword in dataset:
            placed.add(copy_of(dataset[keyword]))
    return placed


def _is_valid(element: DataElement) -> bool:
    if element.VR not in _CHECKED_VR or element.is_empty:
        return True
    values = element.value if element.VM > 1 else [element.value]
    try:
        for value in values:
            validate_value(element.VR, str(value), config.RAISE)
    except ValueError:
        return False
    return True


def _complete(first: Dataset) -> None:
    first.SpecificCharacterSet = "ISO_IR 192"
    for keyword in TYPE_2:
        if keyword not in first or first[keyword].is_empty:
            setattr(first, keyword, "")
    if first.PatientSex not in {"M", "F", "O"}:
        first.PatientSex = ""
    # Type 1C: never empty, but required where the identity was removed (PS3.3 C.7.1.1).
    if "DeidentificationMethod" in first and first["DeidentificationMethod"].is_empty:
        del first.DeidentificationMethod
    if first.get("PatientIdentityRemoved") == "YES" and not (
        first.get("DeidentificationMethod") or first.get("DeidentificationMethodCodeSequence")
    ):
        first.DeidentificationMethod = "Not stated by the source"


def _describe_compression(first: Dataset, sources: Sequence[Dataset]) -> None:
    """Pass on that the pixels were once compressed with loss (PS3.3 C.8.20.2, type 1C)."""
    for source in sources:
        meta = getattr(source, "file_meta", None)
        method = _LOSSY_METHODS.get(meta.get("TransferSyntaxUID")) if meta is not None else None
        flag = source.get("LossyImageCompression") or ("01" if method else "00")
        if flag != "01":
            continue
        first.LossyImageCompression = "01"
        for keyword in ("LossyImageCompressionRatio", "LossyImageCompressionMethod"):
            if source.get(keyword) is not None:
                first.add(deepcopy(source[keyword]))
        if method and not first.get("LossyImageCompressionMethod"):
            first.LossyImageCompressionMethod = method
        return


def _settle_geometry(copy: Dataset, first: Dataset) -> None:
    for keyword in ("NumberOfFrames", "SpacingBetweenSlices"):
        if keyword in copy:
            del copy[keyword]
    if "ImagePositionPatient" not in copy or "ImageOrientationPatient" not in copy:
        for keyword in ("FrameOfReferenceUID", "ImagePositionPatient", "ImageOrientationPatient"):
            if keyword in copy:
                del copy[keyword]
    else:
        if not copy.get("FrameOfReferenceUID"):
            # One series has one frame of reference (PS3.3 C.7.4.1), told or not.
            copy.FrameOfReferenceUID = derived_uid("frame", first.SeriesInstanceUID)
        # highdicom compares orientations exactly; scanners round them slice by slice.
        copy.ImageOrientationPatient = first.ImageOrientationPatient
    spacing = copy.get("PixelSpacing")
    if spacing is not None and not all(float(value) > 0 for value in spacing):
        del copy.PixelSpacing
    if "ImagePositionPatient" in copy and copy.get("SliceThickness") in (None, ""):
        copy.SliceThickness = None


def _stand_in(copy: Dataset) -> None:
    """Have the copy of a frame pass for a single-frame instance.

    highdicom goes by the SOP Class: of an enhanced one it takes a single source, whole, and sees
    its frames in their own order. Ours are in the order of the mask, some of them left out, and
    may come from several instances.
    """
    number = frame_number_of(copy)
    if number is None:
        return
    copy.ReferencedSOPClassUID, copy.ReferencedSOPInstanceUID = (
        copy.SOPClassUID,
        copy.SOPInstanceUID,
    )
    copy.SOPClassUID = _SINGLE_FRAME.get(copy.SOPClassUID, MRImageStorage)
    copy.SOPInstanceUID = derived_uid("frame", copy.SOPInstanceUID, str(number))


def _name_sources(
    dataset: Dataset, by_stand_in: Mapping[str, Reference], *, with_frames: bool
) -> None:
    for element in dataset:
        if element.VR != "SQ":
            continue
        kept: list[Dataset] = []
        named: set[str] = set()
        for item in element.value:
            reference = by_stand_in.get(item.get("ReferencedSOPInstanceUID", ""))
            if reference is None:
                _name_sources(
                    item,
                    by_stand_in,
                    with_frames=with_frames or element.keyword == "DerivationImageSequence",
                )
                kept.append(item)
                continue
            if reference.sop_instance_uid in named and not with_frames:
                continue
            named.add(reference.sop_instance_uid)
            true = deepcopy(item)  # highdicom has the same items in several sequences
            true.ReferencedSOPClassUID = reference.sop_class_uid
            true.ReferencedSOPInstanceUID = reference.sop_instance_uid
            if with_frames:
                true.ReferencedFrameNumber = reference.frame_number
            kept.append(true)
        element.value = kept
