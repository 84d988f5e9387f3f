"""Who a data set is about: what tells the patient apart, and the words that name somebody."""

from __future__ import annotations

import re
from collections.abc import Iterator

from pydicom.dataset import Dataset

from dicom_node.coerce.elements import texts_of

_NAME_LETTERS_MIN = 3
_NUMBER_LETTERS_MIN = 4
_NOBODY = frozenset(
    {"anonymous", "anonymized", "anonymised", "doctor", "name", "none", "patient", "unknown"}
)
_NAMES = (
    "PatientName",
    "OtherPatientNames",
    "PatientBirthName",
    "PatientMotherBirthName",
    "ReferringPhysicianName",
    "PerformingPhysicianName",
    "NameOfPhysiciansReadingStudy",
    "PhysiciansOfRecord",
    "RequestingPhysician",
    "OperatorsName",
)
_NUMBERS = ("PatientID", "OtherPatientIDs", "AccessionNumber", "PatientBirthDate")
_PART = re.compile(r"[^\W_]+")


class IdentityWords:
    """Names and numbers of a patient and of those who treat them."""

    def __init__(self, dataset: Dataset) -> None:
        words = {word.lower() for word in _words(dataset)} - _NOBODY
        patterns = [
            re.escape(word) if _without_spaces(word) else rf"(?<![^\W_]){re.escape(word)}(?![^\W_])"
            for word in sorted(words, key=lambda word: (-len(word), word))
        ]
        self._any = bool(patterns)
        self._found = re.compile("|".join(patterns), re.IGNORECASE)

    def masked(self, text: str) -> str:
        """Return a text with an asterisk for each letter of such a word."""
        if not self._any:
            return text
        return self._found.sub(lambda found: "*" * len(found[0]), text)


def patient_of(dataset: Dataset) -> str:
    """Return what pseudonyms and the shift of dates of a patient depend on.

    The Patient ID alone: its issuer stands in some instances of a study and is missing in others.
    """
    patient_id = str(dataset.get("PatientID") or "").strip()
    if patient_id:
        return patient_id
    return f"{dataset.get('PatientName') or ''}\\{dataset.get('PatientBirthDate') or ''}"


def _words(dataset: Dataset) -> Iterator[str]:
    for keyword in _NAMES:
        for value in texts_of(dataset.get(keyword)):
            for part in _PART.findall(value):
                if len(part) >= (2 if _without_spaces(part) else _NAME_LETTERS_MIN):
                    yield part
    for keyword in _NUMBERS:
        for value in texts_of(dataset.get(keyword)):
            if len(value.strip()) >= _NUMBER_LETTERS_MIN:
                yield value.strip()


def _without_spaces(word: str) -> bool:
    """Return whether a word is of a script that puts none between words, as in East Asia."""
    return max(word) >= "\u2e80"
