"""The part that all our objects have in common, for those that highdicom has no good class for."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from highdicom._standard_utils import get_anatomic_region_map
from highdicom.base import SOPClass
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian

from dicom_node.encode.header import common_arguments
from dicom_node.encode.identity import instance_uid
from dicom_node.encode.material import Material
from dicom_node.multiframe import frame_number_of

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


def reference_to(source: Dataset) -> Dataset:
    """Return an item that names a source by its header: an instance, or a frame of it (10.8, 10.3).

    A source, not a copy of `copies_of`: that of a frame goes by other UIDs.
    """
    item = _instance(source)
    number = frame_number_of(source)
    if number is not None:
        item.ReferencedFrameNumber = number
    return item


def references_to(sources: Iterable[Dataset]) -> list[Dataset]:
    """Return items that name sources, each once, with the numbers of all frames meant (10.3)."""
    items: dict[str, Dataset] = {}
    for source in sources:
        item = reference_to(source)
        first = items.setdefault(str(item.ReferencedSOPInstanceUID), item)
        if first is not item and "ReferencedFrameNumber" in item:
            told = first.ReferencedFrameNumber
            numbers = list(told) if first["ReferencedFrameNumber"].VM > 1 else [told]
            first.ReferencedFrameNumber = [*numbers, item.ReferencedFrameNumber]
    return list(items.values())


def whole_instances(sources: Iterable[Dataset]) -> list[Dataset]:
    """Return items that name the instances of sources, each once and whole (10.8)."""
    return list({str(one.SOPInstanceUID): _instance(one) for one in sources}.values())


def _instance(source: Dataset) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID = source.SOPClassUID
    item.ReferencedSOPInstanceUID = source.SOPInstanceUID
    return item


def images_by_series(sources: Iterable[Dataset]) -> list[Dataset]:
    """Return what a presentation state is for: images and frames, by series (PS3.3 C.11.11)."""
    return _by_series(sources, "ReferencedImageSequence", references_to)


def instances_by_series(sources: Iterable[Dataset]) -> list[Dataset]:
    """Return the Common Instance Reference to sources: whole, by series (PS3.3 C.12.2)."""
    return _by_series(sources, "ReferencedInstanceSequence", whole_instances)


def _by_series(
    sources: Iterable[Dataset], items: str, name: Callable[[list[Dataset]], list[Dataset]]
) -> list[Dataset]:
    ordered: dict[str, list[Dataset]] = {}
    for source in sources:
        ordered.setdefault(str(source.SeriesInstanceUID), []).append(source)
    listed = []
    for uid, members in ordered.items():
        series = Dataset()
        series.SeriesInstanceUID = uid
        setattr(series, items, name(members))
        listed.append(series)
    return listed


def code_item(value: str, scheme: str, meaning: str) -> Dataset:
    """Return an item of a code sequence (PS3.3 8.8)."""
    item = Dataset()
    item.CodeValue = value
    item.CodingSchemeDesignator = scheme
    item.CodeMeaning = meaning
    return item
