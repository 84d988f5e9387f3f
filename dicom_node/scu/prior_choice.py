"""Which prior studies are to be fetched: from what an archive holds, by what a rule wants. Pure.

A wrong prior is worse than none, so whatever is known has to agree: Patient ID, issuer, birth
date. What is unknown at one side speaks neither for nor against, but a study without Patient ID or
without date is no prior of anything. Reasons name counts and dates of studies; never a person.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from fnmatch import fnmatchcase

from dicom_node.priors import PriorsWanted
from dicom_node.scu.found import FoundStudy


@dataclass(frozen=True)
class PriorChoice:
    """What becomes of one study that was found."""

    study: FoundStudy
    is_chosen: bool
    reason: str


def study_date_range(current: FoundStudy, wanted: PriorsWanted, today: date) -> str:
    """Return the (0008,0020) Study Date to ask an archive for; empty if any will do."""
    reference = date_of(current) or today
    first = ""
    if wanted.within_days is not None:
        first = f"{reference - timedelta(days=wanted.within_days):%Y%m%d}"
    last = f"{reference:%Y%m%d}" if wanted.older_than_study else ""
    return f"{first}-{last}" if first or last else ""


def choose_priors(
    found: Sequence[FoundStudy], current: FoundStudy, wanted: PriorsWanted, today: date
) -> list[PriorChoice]:
    """Return each study that was found, once, with whether it is a prior and why.

    Parameters
    ----------
    found : sequence of FoundStudy
        What the archive answered; the same study may be in it more than once.
    current : FoundStudy
        The study that has been received.
    today : date
        Stands in for the date of the current study if it has none.

    Returns
    -------
    list of PriorChoice
        The newest first; what has no date comes last.
    """
    studies = list({study.study_instance_uid: study for study in reversed(found)}.values())
    studies.sort(key=lambda study: study.study_instance_uid)
    studies.sort(key=_moment, reverse=True)
    choices: list[PriorChoice] = []
    count = 0
    for study in studies:
        against = _against(study, current, wanted, date_of(current) or today)
        if not against and count >= wanted.count_max:
            against = f"{count} newer {'one is' if count == 1 else 'ones are'} enough"
        if against:
            choices.append(PriorChoice(study, False, against))
        else:
            count += 1
            reason = f"prior {count} of at most {wanted.count_max}, of {study.study_date}"
            choices.append(PriorChoice(study, True, reason))
    return choices


def date_of(study: FoundStudy) -> date | None:
    """Return the Study Date; None if it is missing or is no date."""
    try:
        return date.fromisoformat(study.study_date) if len(study.study_date) == 8 else None
    except ValueError:
        return None


def _moment(study: FoundStudy) -> tuple[str, str]:
    """Return what sorts studies by age; a time may leave out its seconds, and often does."""
    digits = re.sub(r"\D", "", study.study_time)[:6]
    return (study.study_date if date_of(study) else "", digits.ljust(6, "0"))


def _against(study: FoundStudy, current: FoundStudy, wanted: PriorsWanted, reference: date) -> str:
    """Return why a study is no prior; empty if it is one."""
    return (
        _another_patient(study, current)
        or _wrong_time(study, current, wanted, reference)
        or _wrong_kind(study, wanted)
    )


def _another_patient(study: FoundStudy, current: FoundStudy) -> str:
    if not study.study_instance_uid:
        return "it has no Study Instance UID"
    if study.study_instance_uid == current.study_instance_uid:
        return "it is the current study"
    if not current.patient_id:
        return "the current study has no Patient ID"
    if study.patient_id != current.patient_id:
        return "its Patient ID is another"
    if _differ(study.issuer_of_patient_id, current.issuer_of_patient_id):
        return "the issuer of its Patient ID is another"
    if _differ(study.patient_birth_date, current.patient_birth_date):
        return "its patient has another birth date under the same Patient ID"
    return ""


def _wrong_time(
    study: FoundStudy, current: FoundStudy, wanted: PriorsWanted, reference: date
) -> str:
    held = date_of(study)
    if held is None:
        return "it has no Study Date"
    if wanted.older_than_study:
        later_that_day = held == reference and _is_later(study, current)
        if held > reference or later_that_day:
            return "it is newer than the current study"
    if wanted.within_days is not None and (reference - held).days > wanted.within_days:
        return f"it is more than {wanted.within_days} days older"
    return ""


def _is_later(study: FoundStudy, current: FoundStudy) -> bool:
    """Return whether a study of the same day came after; one of the two times may be unknown."""
    known = bool(study.study_time and current.study_time and date_of(current))
    return known and _moment(study) > _moment(current)


def _wrong_kind(study: FoundStudy, wanted: PriorsWanted) -> str:
    if wanted.modalities and not set(wanted.modalities) & set(study.modalities):
        return f"none of its modalities is {' or '.join(sorted(wanted.modalities))}"
    if wanted.study_description and not fnmatchcase(
        study.study_description.casefold(), wanted.study_description.casefold()
    ):
        return "its Study Description does not match"
    body_parts = {part.casefold() for part in study.body_parts}
    if (
        wanted.body_parts
        and body_parts
        and not body_parts & {part.casefold() for part in wanted.body_parts}
    ):
        return f"it shows no {' or '.join(sorted(wanted.body_parts))}"
    return ""


def _differ(one: str, other: str) -> bool:
    return bool(one and other) and one != other
