"""Trees of results as they are written, and the same with something broken in one of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from typing import BinaryIO

import pydicom
from pydicom.dataset import Dataset, FileDataset

from dicom_node.encode.capture import make_captures
from dicom_node.encode.header import part10
from dicom_node.encode.key_objects import make_key_objects
from dicom_node.encode.material import Material
from dicom_node.encode.parametric_map import make_maps
from dicom_node.encode.pdf import make_pdf
from dicom_node.encode.presentation import make_states
from dicom_node.encode.results import Encoded, SegEncoding, encode
from dicom_node.gate.inspection import Checked, Verdict, inspect
from dicom_node.model import Result
from tests.unit.encode.materials import content_of

Spoil = Callable[[FileDataset], None]


@dataclass(frozen=True)
class InMemory:
    """A file that lies nowhere."""

    content: bytes
    name: str = "result.dcm"

    def open(self, mode: str, /) -> BinaryIO:
        return BytesIO(self.content)

    def read_bytes(self) -> bytes:
        return self.content


def checked(kind: str, content: bytes) -> Checked:
    """Return a file with the row that the ledger would have of it."""
    dataset = pydicom.dcmread(BytesIO(content), stop_before_pixels=True)
    result = Result(
        sop_instance_uid=str(dataset.SOPInstanceUID),
        sop_class_uid=str(dataset.SOPClassUID),
        series_instance_uid=str(dataset.SeriesInstanceUID),
        study_instance_uid=str(dataset.StudyInstanceUID),
        transfer_syntax_uid=str(dataset.file_meta.TransferSyntaxUID),
        job_id="job",
        kind=kind,
        path=f"{kind}.dcm",
        size_bytes=len(content),
        digest="",
    )
    return Checked(result, InMemory(content))


def whole(encoded: Encoded) -> bytes:
    return b"".join(bytes(piece) for piece in encoded.pieces)


def plain_tree(
    material: Material, encoding: SegEncoding = SegEncoding.BINARY
) -> dict[str, Checked]:
    """Return SEG and SR of a finding."""
    made = encode(material.finding, material.sources, material.stamp, encoding)
    return {one.kind: checked(one.kind, whole(one)) for one in made}


def other_objects(material: Material) -> dict[str, Checked]:
    """Return what else there is of a finding, the key objects referring to the rest."""
    made: dict[str, Dataset] = {"SC": make_captures(material)[0], "PR": make_states(material)[0]}
    for one in make_maps(material):
        made["PM"] = one
    selection = make_key_objects(material, list(made.values()))
    if selection is not None:
        made["KO"] = selection
    made["PDF"] = make_pdf(material)
    return {kind: checked(kind, content_of(one, material)) for kind, one in made.items()}


def spoiled(one: Checked, spoil: Spoil) -> Checked:
    """Return a result whose file is what `spoil` makes of it."""
    dataset = pydicom.dcmread(BytesIO(one.file.read_bytes()))
    spoil(dataset)
    content = part10(dataset)
    return Checked(replace(one.result, size_bytes=len(content)), InMemory(content))


def verdicts_on(
    material: Material, tree: dict[str, Checked], bytes_max: int | None = None
) -> Sequence[Verdict]:
    return inspect(list(tree.values()), material.finding, material.sources, bytes_max=bytes_max)
