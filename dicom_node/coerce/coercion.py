"""A profile applied to an instance: the copy that leaves, and what leads back to the original."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from dicom_node.coerce.burned_in import check_burned_in
from dicom_node.coerce.deidentify import Deidentifier
from dicom_node.coerce.elements import like
from dicom_node.coerce.operations import perform
from dicom_node.coerce.profile import Deidentification, Option, Profile
from dicom_node.coerce.pseudonyms import Pseudonyms
from dicom_node.coerce.table import EDITION
from dicom_node.errors import StudyUnusable
from dicom_node.headers import reading
from dicom_node.model import CrosswalkEntry

UID = "uid"
DATE = "date"

RESTORED = (
    "PatientName",
    "PatientID",
    "IssuerOfPatientID",
    "PatientBirthDate",
    "PatientSex",
    "AccessionNumber",
    "StudyID",
    "StudyDate",
    "StudyTime",
    "StudyDescription",
    "ReferringPhysicianName",
)
"""Attributes of patient and study that a result gets back (PS3.3 C.7.1.1, C.7.2.1)."""

_BASIC = ("113100", "Basic Application Confidentiality Profile")
_CODES = {
    Option.CLEAN_GRAPHICS: ("113103", "Clean Graphics Option"),
    Option.CLEAN_STRUCTURED_CONTENT: ("113104", "Clean Structured Content Option"),
    Option.CLEAN_DESCRIPTORS: ("113105", "Clean Descriptors Option"),
    Option.RETAIN_LONGITUDINAL_FULL_DATES: (
        "113106",
        "Retain Longitudinal Temporal Information Full Dates Option",
    ),
    Option.RETAIN_LONGITUDINAL_MODIFIED_DATES: (
        "113107",
        "Retain Longitudinal Temporal Information Modified Dates Option",
    ),
    Option.RETAIN_PATIENT_CHARACTERISTICS: ("113108", "Retain Patient Characteristics Option"),
    Option.RETAIN_DEVICE_IDENTITY: ("113109", "Retain Device Identity Option"),
    Option.RETAIN_UIDS: ("113110", "Retain UIDs Option"),
    Option.RETAIN_SAFE_PRIVATE: ("113111", "Retain Safe Private Option"),
    Option.RETAIN_INSTITUTION_IDENTITY: ("113112", "Retain Institution Identity Option"),
}
"""De-identification Method, PS3.16 CID 7050."""
_PIXELS_CLEANED = {
    "113101": "Clean Pixel Data Option",
    "113102": "Clean Recognizable Visual Features Option",
}


@dataclass(frozen=True)
class Coerced:
    """A copy of an instance, changed as its profile says."""

    dataset: Dataset
    crosswalk_entries: tuple[CrosswalkEntry, ...]
    """To be recorded before the copy leaves; without them nothing leads back."""
    notes: tuple[str, ...] = ()
    """For the record; never a value of the instance."""
    counts: Mapping[str, int] = field(default_factory=dict)
    """How many elements were removed, emptied and so on."""

    @property
    def study_instance_uid(self) -> str:
        """Of the copy."""
        return str(self.dataset.StudyInstanceUID)


def apply(profile: Profile, dataset: Dataset, secret: bytes) -> Coerced:
    """Return the copy of an instance that may leave by a profile.

    Parameters
    ----------
    dataset : Dataset
        The instance, with or without its pixels; it is not changed, and what stays is shared.
    secret : bytes
        The node's; the same bytes give the same copy.

    Raises
    ------
    StudyUnusable
        If the policy on burned-in annotation refuses it, or it cannot be read.
    """
    with reading("the data set"):
        pseudonyms = Pseudonyms(secret, profile.name)
        uids: Mapping[str, str] = {}
        dates: Mapping[str, str] = {}
        counts: Mapping[str, int] = {}
        notes = []
        if profile.deidentification is None:
            new = like(dataset, {tag: dataset.get_item(tag) for tag in sorted(dataset.keys())})
        else:
            note = check_burned_in(dataset, profile.deidentification.burned_in_annotation)
            notes += [note] if note else []
            deidentifier = Deidentifier(profile.deidentification.options, pseudonyms, dataset)
            new = deidentifier.run()
            _declare(new, dataset, profile.deidentification)
            uids, dates, counts = deidentifier.uids, deidentifier.dates, deidentifier.counts
        for operation in profile.operations:
            perform(operation, new, pseudonyms)
        entries = tuple(_entries(profile.name, dataset, new, uids, dates))
        return Coerced(new, entries, tuple(notes), dict(counts))


def _declare(new: Dataset, original: Dataset, deidentification: Deidentification) -> None:
    """Say in the copy that it is one, and how it was made (PS3.15 E.1.1, PS3.3 C.7.1.1)."""
    options = deidentification.options
    codes = dict([_BASIC, *(_CODES[option] for option in options)])
    for item in original.get("DeidentificationMethodCodeSequence") or ():
        value = str(item.get("CodeValue") or "")
        if value in _PIXELS_CLEANED:  # by somebody before us, and it is still true
            codes[value] = _PIXELS_CLEANED[value]
    new.PatientIdentityRemoved = "YES"
    new.DeidentificationMethod = f"PS3.15 {EDITION} {_BASIC[1]}"
    new.DeidentificationMethodCodeSequence = Sequence(
        [_method(value, codes[value]) for value in sorted(codes)]
    )
    if Option.RETAIN_LONGITUDINAL_FULL_DATES in options:
        temporal = "UNMODIFIED"
    elif Option.RETAIN_LONGITUDINAL_MODIFIED_DATES in options:
        temporal = "MODIFIED"
    else:
        temporal = "REMOVED"
    new.LongitudinalTemporalInformationModified = temporal


def _method(value: str, meaning: str) -> Dataset:
    item = Dataset()
    item.CodeValue = value
    item.CodingSchemeDesignator = "DCM"
    item.CodeMeaning = meaning
    return item


def _entries(
    profile: str,
    original: Dataset,
    new: Dataset,
    uids: Mapping[str, str],
    dates: Mapping[str, str],
) -> Iterator[CrosswalkEntry]:
    study_instance_uid = str(new.get("StudyInstanceUID") or "")
    if not study_instance_uid:
        raise StudyUnusable("not forwarded: it has no Study Instance UID")
    for kind, replaced in ((UID, uids), (DATE, dates)):
        for before, after in replaced.items():
            yield CrosswalkEntry(profile, study_instance_uid, kind, before, after)
    for keyword in RESTORED:
        before, after = (str(one.get(keyword) or "") for one in (original, new))
        if before != after:
            yield CrosswalkEntry(profile, study_instance_uid, keyword, before, after)
