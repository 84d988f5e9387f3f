"""What a peer says that it holds: values, read from the matches of a C-FIND."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Self

from dicom_node.model import Attributes


@dataclass(frozen=True)
class FoundStudy:
    """A study at a peer. Whom it shows is not in its `repr`, so that no log tells it."""

    study_instance_uid: str
    study_date: str = ""
    """YYYYMMDD; empty if unknown, as everything here may be."""
    study_time: str = ""
    study_description: str = ""
    modalities: tuple[str, ...] = ()
    """(0008,0061) Modalities in Study."""
    body_parts: tuple[str, ...] = ()
    """(0018,0015) Body Part Examined of its series, where the peer tells it."""
    series_count: int | None = None
    instance_count: int | None = None
    patient_id: str = field(default="", repr=False)
    issuer_of_patient_id: str = field(default="", repr=False)
    patient_birth_date: str = field(default="", repr=False)

    @classmethod
    def of(cls, match: Attributes) -> Self:
        """Return the study of a match at the level STUDY."""
        return cls(
            study_instance_uid=text_in(match, "StudyInstanceUID"),
            study_date=text_in(match, "StudyDate").replace(".", ""),  # as ACR-NEMA wrote it
            study_time=text_in(match, "StudyTime"),
            study_description=text_in(match, "StudyDescription"),
            modalities=tuple(value for value in match.get("ModalitiesInStudy", ()) if value),
            series_count=count_in(match, "NumberOfStudyRelatedSeries"),
            instance_count=count_in(match, "NumberOfStudyRelatedInstances"),
            patient_id=text_in(match, "PatientID"),
            issuer_of_patient_id=text_in(match, "IssuerOfPatientID"),
            patient_birth_date=text_in(match, "PatientBirthDate"),
        )


def text_in(match: Attributes, keyword: str) -> str:
    """Return the first value of an attribute, empty if it has none."""
    values = match.get(keyword, ())
    return values[0].strip() if values else ""


def count_in(match: Attributes, keyword: str) -> int | None:
    """Return the value of a count, None if it is missing or is none."""
    text = text_in(match, keyword)
    return int(text) if text.isascii() and text.isdigit() else None
