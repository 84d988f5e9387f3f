"""Finding to Encapsulated PDF: a report that a person likes to read (PS3.3 A.45.1)."""

from __future__ import annotations

from pydicom.dataset import Dataset
from pydicom.uid import EncapsulatedPDFStorage

from dicom_node.encode import codes
from dicom_node.encode.material import Material
from dicom_node.encode.report import report_of
from dicom_node.encode.shell import Shell, code_item, whole_instances


def make_pdf(material: Material) -> Dataset:
    """Return the report of a finding as a PDF in a data set; times not yet set.

    References
    ----------
    PS3.3 A.45.1, C.24.2 (Encapsulated Document Module)
    """
    # A second of imports that no node needs whose destinations want no PDF.
    from dicom_node.encode.pages import pages_of

    report = report_of(material)
    made = Shell(material, "PDF", EncapsulatedPDFStorage, "DOC", material.disclaimer)
    made.ConversionType = "WSD"
    made.AcquisitionDateTime = ""
    made.BurnedInAnnotation = "YES"
    made.RecognizableVisualFeatures = "YES" if material.reference.get("Modality") == "MR" else "NO"
    made.DocumentTitle = codes.long_string(report.title, 1024)
    made.ConceptNameCodeSequence = [code_item("126000", "DCM", "Imaging Measurement Report")]
    made.VerificationFlag = "UNVERIFIED"
    made.SourceInstanceSequence = whole_instances(material.sources)
    made.MIMETypeOfEncapsulatedDocument = "application/pdf"
    content = pages_of(report)
    made.EncapsulatedDocument = content + b"\0" * (len(content) % 2)
    made.EncapsulatedDocumentLength = len(content)
    return made
