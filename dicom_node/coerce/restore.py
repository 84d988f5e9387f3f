"""A result for a copy, brought back to the study that the copy was made of.

What the result says of its source (UIDs, patient, study) becomes what the source says; what it says
of itself stays: its own SOP Instance and Series Instance UID, its own dates. Who is who is told by
the values: a UID or date that we gave to the copy can have come from nowhere else.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as DicomSequence
from pydicom.tag import BaseTag

from dicom_node.coerce.coercion import DATE, RESTORED, UID
from dicom_node.coerce.elements import Element, like
from dicom_node.coerce.operations import put
from dicom_node.errors import StudyUnusable
from dicom_node.headers import reading
from dicom_node.model import CrosswalkEntry

_OF_THE_COPY = (
    "PatientIdentityRemoved",
    "DeidentificationMethod",
    "DeidentificationMethodCodeSequence",
    "LongitudinalTemporalInformationModified",
)
_TYPE_3 = ("IssuerOfPatientID", "StudyDescription")


def restore(dataset: Dataset, entries: Sequence[CrosswalkEntry]) -> Dataset:
    """Return a result as one of the real study; the given data set is not changed.

    Parameters
    ----------
    dataset : Dataset
        The result, as it came for the copy.
    entries : sequence of CrosswalkEntry
        All that the crosswalk has of its Study Instance UID.

    Raises
    ------
    StudyUnusable
        If it is the copy itself that came back, or belongs to no copy, or cannot be read.
    """
    with reading("the result"):
        values = _values(dataset, entries)
        if str(dataset.get("SOPInstanceUID") or "") in values[UID]:
            raise StudyUnusable(
                "this is a copy that the node sent, not a result for it",
                hint="have the receiver send back its results only",
            )
        new = _dataset(dataset, values[UID], values[DATE])
        for keyword in RESTORED:
            if keyword not in values:
                continue
            [original] = values[keyword].values()
            if original or keyword not in _TYPE_3:
                put(new, keyword, original)
            elif keyword in new:
                del new[keyword]
        for keyword in _OF_THE_COPY:
            if keyword in new:
                del new[keyword]
        return new


def _values(
    dataset: Dataset, entries: Sequence[CrosswalkEntry]
) -> defaultdict[str, dict[str, str]]:
    """Return by kind, then by replacement, the originals of the copy that a result is for."""
    found = _matching(dataset, entries)
    if len(found) != 1:
        raise StudyUnusable(
            "the crosswalk has no copy with the study and the patient of this result",
            hint="have the receiver keep Study Instance UID and Patient ID in its results",
        )
    return found[0]


def _matching(
    dataset: Dataset, entries: Sequence[CrosswalkEntry]
) -> list[defaultdict[str, dict[str, str]]]:
    by_profile: dict[str, defaultdict[str, dict[str, str]]] = {}
    for entry in entries:
        values = by_profile.setdefault(entry.profile, defaultdict(dict))
        if entry.kind in (UID, DATE) or not values[entry.kind]:
            values[entry.kind][entry.replacement] = entry.original
    patient_id = str(dataset.get("PatientID") or "")
    return [
        values
        for values in by_profile.values()
        if patient_id in values.get("PatientID", {patient_id: ""})
    ]


def _dataset(dataset: Dataset, uids: Mapping[str, str], dates: Mapping[str, str]) -> Dataset:
    new: dict[BaseTag, Element] = {}
    for tag in sorted(dataset.keys()):
        raw = dataset.get_item(tag)
        if raw.VR in (None, "UI", "DA", "DT", "SQ", "UN"):
            new[tag] = _restored(dataset[tag], uids, dates)
        else:
            new[tag] = raw
    return like(dataset, new)


def _restored(
    element: DataElement, uids: Mapping[str, str], dates: Mapping[str, str]
) -> DataElement:
    value = element.value
    if element.VR == "SQ":
        items = DicomSequence([_dataset(item, uids, dates) for item in value])
        return DataElement(element.tag, "SQ", items)
    if element.VR not in ("UI", "DA", "DT") or not value:
        return element
    texts = [str(one) for one in value] if element.VM > 1 else [str(value)]
    if element.VR == "UI":
        back = [uids.get(text, text) for text in texts]
    else:
        back = [dates.get(text[:8], text[:8]) + text[8:] for text in texts]
    if back == texts:
        return element
    return DataElement(element.tag, element.VR, back if element.VM > 1 else back[0])
