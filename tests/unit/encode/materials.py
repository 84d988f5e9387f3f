"""What objects are made of, in tests: a finding with the images that it was found on."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO

import pydicom
from pydicom.dataset import Dataset, FileDataset

from dicom_node.encode.drawing import drawing_of
from dicom_node.encode.header import Stamp, finish, part10
from dicom_node.encode.material import DISCLAIMER, Material
from dicom_node.finding import Finding, FindingKind
from tests.unit.encode.findings import STAMP, headers_of


def material_of(
    finding: Finding,
    instances: Sequence[FileDataset],
    headers: Sequence[Dataset] | None = None,
    stamp: Stamp = STAMP,
    disclaimer: str = DISCLAIMER,
) -> Material:
    """Return the material of a finding on whole instances."""
    by_uid = {str(one.SOPInstanceUID): one for one in instances}
    sources = headers_of(instances) if headers is None else list(headers)
    segmented = finding.kind is FindingKind.SEGMENTATION
    return Material(
        finding,
        sources,
        drawing_of(finding, sources).segments if segmented else (),
        stamp,
        by_uid.__getitem__,
        disclaimer,
    )


def content_of(made: Dataset, material: Material) -> bytes:
    """Return the file of an object that was just made."""
    finish(made, material.sources[0].PatientName, material.reference, material.stamp)
    return part10(made)


def written(made: Dataset, material: Material) -> FileDataset:
    """Return an object as it is read back from its file."""
    return pydicom.dcmread(BytesIO(content_of(made, material)))
