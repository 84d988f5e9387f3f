"""The part that all our objects have in common, for those that highdicom has no good class for."""

from __future__ import annotations

from collections.abc import Iterable

from highdicom._standard_utils import get_anatomic_region_map
from highdicom.base import SOPClass
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian

from dicom_node.encode.header import common_arguments
from dicom_node.encode.identity import instance_uid
from dicom_node.encode.material import Material
from dicom_node.encode.sources import reference_of

_WITHOUT_BODY_PART = {"PDF", "KO"}
"""Their series have no General Series Module, so no Laterality either (PS3.3 A.45.1, A.35.4)."""


class Shell(SOPClass):
    """An object with Patient, Study, Series, Equipment and SOP Common, and nothing yet in it."""

    def __init__(
        self,
        material: Material,
        kind: str,
        sop_class_uid: str,
        modality: str,
        *what: str,
        number: int = 1,
    ) -> None:
        """Make the object.

        Parameters
        ----------
        kind : str
            One of `identity.SERIES_NUMBERS`.
        what : str
            On what else than the finding its content depends.
        number : int
            Which of several of its kind it is, from 1.
        """
        reference = material.reference
        arguments = common_arguments(material.finding, reference, material.stamp, kind)
        del arguments["content_qualification"]
        part = "\n".join((kind, str(number), *what))
        earlier = arguments.pop("instance_number") - 1
        arguments |= {
            "sop_instance_uid": instance_uid(material.finding, part, material.stamp.job_key),
            "instance_number": 100 * earlier + number,
        }
        super().__init__(
            study_instance_uid=reference.StudyInstanceUID,
            sop_class_uid=sop_class_uid,
            modality=modality,
            transfer_syntax_uid=ExplicitVRLittleEndian,
            specific_character_set="ISO_IR 192",
            patient_id=reference.PatientID,
            patient_name=reference.PatientName,
            patient_birth_date=reference.PatientBirthDate,
            patient_sex=reference.PatientSex,
            accession_number=reference.AccessionNumber,
            study_id=reference.StudyID,
            study_date=reference.StudyDate,
            study_time=reference.StudyTime,
            referring_physician_name=reference.ReferringPhysicianName,
            **arguments,
        )
        self.copy_patient_and_study_information(reference)
        if kind not in _WITHOUT_BODY_PART:
            _set_body_part(self, reference)
        self._add_contributing_equipment(None, reference)


def _set_body_part(made: Dataset, reference: Dataset) -> None:
    """Copy which part of the body it is; an unknown side of a paired one is empty (type 2C)."""
    for keyword in ("BodyPartExamined", "Laterality"):
        if reference.get(keyword):
            made.add(reference[keyword])
    region = get_anatomic_region_map().get(str(reference.get("BodyPartExamined", "")))
    if "Laterality" not in made and (region is None or region[1]):
        made.Laterality = ""


def reference_to(instance: Dataset) -> Dataset:
    """Return an item that names an instance, or the one frame whose header this is (10.8, 10.3)."""
    item = Dataset()
    named = reference_of(instance)
    item.ReferencedSOPClassUID = named.sop_class_uid
    item.ReferencedSOPInstanceUID = named.sop_instance_uid
    if named.frame_number is not None:
        item.ReferencedFrameNumber = named.frame_number
    return item


def references_to(instances: Iterable[Dataset]) -> list[Dataset]:
    """Return items that name instances, each once, with the numbers of all frames meant."""
    items: dict[str, Dataset] = {}
    for instance in instances:
        item = reference_to(instance)
        first = items.setdefault(str(item.ReferencedSOPInstanceUID), item)
        if first is not item and "ReferencedFrameNumber" in item:
            told = first.ReferencedFrameNumber
            numbers = list(told) if first["ReferencedFrameNumber"].VM > 1 else [told]
            first.ReferencedFrameNumber = [*numbers, item.ReferencedFrameNumber]
    return list(items.values())


def series_of(instances: Iterable[Dataset], items: str = "ReferencedSOPSequence") -> list[Dataset]:
    """Return items that name instances, by series, in their order.

    Parameters
    ----------
    items : str
        Which sequence of a series has its instances: (0008,114A) *Referenced Instance Sequence* in
        the Common Instance Reference, (0008,1140) *Referenced Image Sequence* in presentation
        states, else (0008,1199) *Referenced SOP Sequence*.
    """
    listed = []
    ordered: dict[str, list[Dataset]] = {}
    for instance in instances:
        ordered.setdefault(str(instance.SeriesInstanceUID), []).append(instance)
    for uid, members in ordered.items():
        series = Dataset()
        series.SeriesInstanceUID = uid
        setattr(series, items, references_to(members))
        listed.append(series)
    return listed


def code_item(value: str, scheme: str, meaning: str) -> Dataset:
    """Return an item of a code sequence (PS3.3 8.8)."""
    item = Dataset()
    item.CodeValue = value
    item.CodingSchemeDesignator = scheme
    item.CodeMeaning = meaning
    return item
