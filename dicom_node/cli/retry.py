"""`dicom-node retry`: try again what came to a bad end, while the node runs."""

from __future__ import annotations

import re
import time
from pathlib import Path

from dicom_node.cli.console import make_console
from dicom_node.cli.status import commitment_name, fetch_name, forward_name
from dicom_node.config.loading import load_config
from dicom_node.errors import StudyUnusable
from dicom_node.ledger.deliveries import Parcel
from dicom_node.ledger.ledger import Ledger
from dicom_node.lifecycle import (
    CommitmentState,
    DeliveryState,
    FetchState,
    JobState,
    StudyState,
)
from dicom_node.model import ForwardTask, JobRole

_COMMITMENT = re.compile(r"c[0-9]{1,18}")
_FORWARD = re.compile(r"f[0-9]{1,18}")
_FETCH = re.compile(r"p[0-9]{1,18}")
_TRIAL = re.compile(r"t[0-9]{1,18}")
"""As `status` names them; a job's name is longer."""


def retry(
    config_file: Path,
    subjects: list[str],
    all_of_them: bool,
    unproven: bool = False,
    destination: str | None = None,
) -> bool:
    """Put the subjects back into their queues; return whether each could be.

    Parameters
    ----------
    all_of_them : bool
        Everything that was given up, too; what waits for its next try goes at once.
    unproven : bool
        What was delivered and not proven, too.
    destination : str, optional
        Of both, only what goes there.

    Raises
    ------
    StudyUnusable
        If nothing was named.
    """
    config = load_config(config_file)
    ledger = Ledger(config.ledger_url)
    ledger.require_current()
    console = make_console(wraps=False)
    now = time.time()
    if unproven:
        believed = config.believed - {destination}
        parcels = ledger.deliveries.unproven(believed)
        subjects = [*subjects, *_numbers(parcels, destination)]
        subjects += _names(ledger.forwards.unproven(believed), destination)
    if all_of_them:
        ends = _bad_ends(ledger) if destination is None else _dead_ends(ledger, destination)
        subjects = [*subjects, *ends]
        hurried = ledger.deliveries.hurry(now, destination)
        hurried += ledger.forwards.hurry(now, destination)
        console.print(f"{hurried} waiting deliveries and forwards are tried at once")
        ledger.breakers.hurry(now, destination)
    elif not subjects and not unproven:
        raise StudyUnusable("nothing to retry", hint="name what `status` shows, or use --all")
    done = [_retry_one(ledger, subject, now) for subject in subjects]
    for subject, ok in zip(subjects, done, strict=True):
        outcome = "is tried again" if ok else "is unknown, or has not come to an end"
        console.print(f"{subject} {outcome}")
    return all(done)


def _bad_ends(ledger: Ledger) -> list[str]:
    parked = ledger.studies.in_states([StudyState.PARKED])
    # what a rule holds waits for a person who looks at that study
    studies = [s.study_instance_uid for s in parked if not ledger.studies.is_held(s)]
    parked_jobs = ledger.jobs.in_states(JobState.PARKED)
    jobs = [job.job_id for job in parked_jobs if job.role is not JobRole.SHADOW]
    commitments = ledger.commitments.in_states(CommitmentState.DEAD)
    fetches = ledger.fetches.in_states(FetchState.DEAD)
    named = [*map(commitment_name, commitments), *map(fetch_name, fetches)]
    return studies + jobs + _dead_ends(ledger) + named


def _dead_ends(ledger: Ledger, destination: str | None = None) -> list[str]:
    """Return the dead deliveries and forwards, of all destinations or of one."""
    deliveries = _numbers(ledger.deliveries.in_states(DeliveryState.DEAD), destination)
    return deliveries + _names(ledger.forwards.in_states(DeliveryState.DEAD), destination)


def _names(forwards: list[ForwardTask], destination: str | None) -> list[str]:
    return [forward_name(one) for one in forwards if destination in (None, one.destination)]


def _numbers(parcels: list[Parcel], destination: str | None) -> list[str]:
    return [
        str(parcel.delivery.delivery_id)
        for parcel in parcels
        if destination in (None, parcel.delivery.destination)
    ]


def _retry_one(ledger: Ledger, subject: str, now: float) -> bool:
    if subject.isdecimal() and len(subject) < 19:
        return ledger.deliveries.retry(int(subject), now)
    if _COMMITMENT.fullmatch(subject):
        return ledger.commitments.retry(int(subject[1:]), now)
    if _FORWARD.fullmatch(subject):
        return ledger.forwards.retry(int(subject[1:]), now)
    if _FETCH.fullmatch(subject):
        return ledger.fetches.retry(int(subject[1:]), now)
    if _TRIAL.fullmatch(subject):
        return ledger.trials.start_again(int(subject[1:]), now)
    if "." in subject:
        return ledger.studies.retry(subject, now)
    retried = ledger.jobs.retry(subject, now)
    job = ledger.jobs.get(subject)
    if retried and job is not None:
        # its engine may have been replaced meanwhile: then the study gets a job for the new one
        ledger.studies.retry(job.study_instance_uid, now)
    return retried
