"""Finding to Secondary Capture: key slices with the overlay painted in, for any viewer (A.8.1)."""

from __future__ import annotations

from pydicom.dataset import Dataset
from pydicom.uid import SecondaryCaptureImageStorage

from dicom_node.encode.key_slices import segments_on
from dicom_node.encode.material import Material, statements_on
from dicom_node.encode.shell import Shell, code_item, reference_to, series_of
from dicom_node.pictures import (
    Layer,
    captioned,
    grey_of,
    picture_of,
    pixel_aspect,
    segment_colour,
)

_SIDE = 768


def make_captures(material: Material) -> list[Dataset]:
    """Return a picture of each key slice, the disclaimer burned in; times not yet set.

    The words on it name the engine and the finding, never the patient: who that is, the header
    says. (0028,0301) *Burned In Annotation* is YES all the same, so that nobody takes the pixels
    for untouched.

    References
    ----------
    PS3.3 A.8.1 (Secondary Capture Image), C.8.6
    """
    return [
        _capture(material, index, number)
        for number, index in enumerate(material.key_slices.indices, start=1)
    ]


def _capture(material: Material, index: int, number: int) -> Dataset:
    finding, source = material.finding, material.sources[index]
    image = material.read_image(finding.sop_instance_uids[index])
    layers = [Layer(mask, segment_colour(one)) for one, mask in segments_on(finding, index)]
    lines = statements_on(finding, finding.sop_instance_uids[index])
    lines += [(text, None) for text in (*finding.warnings, _where(material, index))]
    shown = picture_of(grey_of(image, source), layers, pixel_aspect(source), _SIDE)
    picture = captioned(shown, [*lines, (material.engine_line, None)], material.disclaimer)

    capture = Shell(
        material, "SC", SecondaryCaptureImageStorage, "OT", material.disclaimer, number=number
    )
    capture.ConversionType = "WSD"
    capture.ImageType = ["DERIVED", "SECONDARY"]
    capture.PatientOrientation = ""  # words turn with no patient
    capture.BurnedInAnnotation = "YES"
    capture.RecognizableVisualFeatures = "YES" if source.get("Modality") == "MR" else "NO"
    capture.DerivationDescription = f"Findings of {finding.engine.name} painted over the image"
    origin = reference_to(source)
    origin.PurposeOfReferenceCodeSequence = [
        code_item("121322", "DCM", "Source image for image processing operation")
    ]
    capture.SourceImageSequence = [origin]
    capture.ReferencedSeriesSequence = series_of([source], "ReferencedInstanceSequence")
    capture.LossyImageCompression = material.reference.get("LossyImageCompression", "00")
    for keyword in ("LossyImageCompressionRatio", "LossyImageCompressionMethod"):
        if capture.LossyImageCompression == "01" and keyword in material.reference:
            capture.add(material.reference[keyword])
    capture.SamplesPerPixel = 3
    capture.PhotometricInterpretation = "RGB"
    capture.PlanarConfiguration = 0
    capture.Rows, capture.Columns = picture.height, picture.width
    capture.BitsAllocated = capture.BitsStored = 8
    capture.HighBit = 7
    capture.PixelRepresentation = 0
    pixels = picture.tobytes()
    capture.PixelData = pixels + b"\0" * (len(pixels) % 2)
    return capture


def _where(material: Material, index: int) -> str:
    source, count = material.sources[index], len(material.sources)
    instance = source.get("InstanceNumber")
    named = "" if instance is None else f" (instance {instance})"
    return f"Image {index + 1} of {count}{named}"
