"""Values for the ledger's tables, a clock that stands still, and a ledger on SQLite."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from dicom_node.ledger.arriving import StudyEvidence
from dicom_node.ledger.associations import AssociationEnd
from dicom_node.ledger.deliveries import Parcel
from dicom_node.ledger.ledger import Ledger
from dicom_node.ledger.routing import Plan
from dicom_node.lifecycle import DeliveryState, JobState
from dicom_node.model import Delivery, Instance, Job, Priority, Result, Study

STUDY = "1.2.3.1"
SERIES = "1.2.3.1.1"
ASSOCIATION = "association-1"
CT_IMAGE_STORAGE = "1.2.840.10008.5.1.4.1.1.2"
SEGMENTATION_STORAGE = "1.2.840.10008.5.1.4.1.1.66.4"
EXPLICIT_LITTLE_ENDIAN = "1.2.840.10008.1.2.1"


class HandClock:
    """A clock that moves only when a test moves it."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def new_ledger(folder: Path) -> Ledger:
    """Return an empty ledger on SQLite, with one association that is open."""
    file = folder / "ledger.sqlite"
    file.write_bytes(_migrated())
    return Ledger(f"sqlite:///{file}")


@cache
def _migrated() -> bytes:
    """Return the file of such a ledger: migrated once, copied for every test."""
    with TemporaryDirectory() as folder:
        file = Path(folder) / "ledger.sqlite"
        ledger = Ledger(f"sqlite:///{file}")
        ledger.migrate()
        open_association(ledger)
        ledger.close()
        return file.read_bytes()


def open_association(ledger: Ledger, name: str = ASSOCIATION, at: float = 0.0) -> str:
    ledger.associations.opened(name, "SCANNER", "DICOM_NODE", "127.0.0.1", at)
    return name


def release(ledger: Ledger, name: str = ASSOCIATION, at: float = 200.0) -> None:
    ledger.associations.closed(name, AssociationEnd.RELEASED, at)


def an_instance(number: int = 1, *, content: str = "", **changes: Any) -> Instance:
    """Return the n-th instance of a series; other `content` makes another data set of it."""
    uid = f"{changes.get('series_instance_uid', SERIES)}.{number}"
    given: dict[str, Any] = {
        "sop_instance_uid": uid,
        "sop_class_uid": CT_IMAGE_STORAGE,
        "study_instance_uid": STUDY,
        "series_instance_uid": SERIES,
        "transfer_syntax_uid": EXPLICIT_LITTLE_ENDIAN,
        "path": f"instances/{uid}{content}.dcm",
        "size_bytes": 1000 + number,
        "digest": hashlib.sha256(f"{uid}{content}".encode()).hexdigest(),
        "received_at": 100.0 + number,
        "association_id": ASSOCIATION,
        "calling_ae_title": "SCANNER",
    }
    return Instance(**(given | changes))


def a_job(job_id: str = "job-1", **changes: Any) -> Job:
    given: dict[str, Any] = {
        "job_id": job_id,
        "study_instance_uid": STUDY,
        "series_instance_uid": SERIES,
        "revision": 1,
        "engine_name": "ct_lungs",
        "engine_version": "1.0.0",
        "rule": "lungs-on-ct",
        "destinations": ("archive",),
        "priority": Priority.ROUTINE,
        "state": JobState.QUEUED,
        "attempt": 0,
        "failures": 0,
        "crashes": 0,
        "not_before": 300.0,
        "reason": "rule lungs-on-ct: Modality is CT",
        "created_at": 300.0,
        "updated_at": 300.0,
    }
    return Job(**(given | changes))


def a_result(number: int = 1, *, job_id: str = "job-1", **changes: Any) -> Result:
    given: dict[str, Any] = {
        "sop_instance_uid": f"2.25.{number}",
        "sop_class_uid": SEGMENTATION_STORAGE,
        "series_instance_uid": f"2.25.100{number}",
        "study_instance_uid": STUDY,
        "transfer_syntax_uid": EXPLICIT_LITTLE_ENDIAN,
        "job_id": job_id,
        "kind": "SEG",
        "path": f"results/{number}.dcm",
        "size_bytes": 2000 + number,
        "digest": hashlib.sha256(str(number).encode()).hexdigest(),
    }
    return Result(**(given | changes))


# ---------------------------------------------------------------- the first steps of a study


def receive(ledger: Ledger, *instances: Instance) -> StudyEvidence:
    """Store instances; return the evidence on the study of the last one."""
    for instance in instances:
        ledger.studies.instance_stored(instance)
    [evidence] = [
        evidence
        for evidence in ledger.studies.receiving()
        if evidence.study_instance_uid == instances[-1].study_instance_uid
    ]
    return evidence


def last_end(evidence: StudyEvidence) -> tuple[AssociationEnd | None, float]:
    """Return how and when the association that closed last ended; (None, 0) if none has."""
    ended = [(one.closed_at, one.end) for one in evidence.carriers if one.closed_at is not None]
    closed_at, end = max(ended, key=lambda one: one[0], default=(0.0, None))
    return end, closed_at


def complete(ledger: Ledger, *instances: Instance, now: float = 250.0) -> Study:
    """Store instances and complete their study; return it."""
    evidence = receive(ledger, *instances)
    assert ledger.studies.completed(evidence, "the last association was released", now)
    return study_of(ledger, evidence.study_instance_uid)


def study_of(ledger: Ledger, study_instance_uid: str = STUDY) -> Study:
    study = ledger.studies.get(study_instance_uid)
    assert study is not None
    return study


def route(ledger: Ledger, study: Study, jobs: Sequence[Job], reason: str, now: float) -> bool:
    """Route a complete study to these jobs."""
    rule_set = ledger.routing.keep_rule_set("rules of a test", now)
    return ledger.routing.record(study, Plan(reason, rule_set, "", {}, tuple(jobs)), now)


def routed(ledger: Ledger, *jobs: Job, now: float = 300.0) -> None:
    """Receive one instance of the study and route it to these jobs."""
    study = complete(ledger, an_instance())
    assert route(ledger, study, jobs, "rules matched", now)


def started(ledger: Ledger, job_id: str = "job-1", now: float = 310.0) -> Job:
    job = ledger.jobs.start(job_id, now)
    assert job is not None
    return job


def job_of(ledger: Ledger, job_id: str = "job-1") -> Job:
    job = ledger.jobs.get(job_id)
    assert job is not None
    return job


def finished(ledger: Ledger, *results: Result, job: Job | None = None, now: float = 400.0) -> None:
    """Route a study to one job, run it and record its results."""
    routed(ledger, job or a_job())
    assert ledger.jobs.finish(started(ledger), results or [a_result()], "found", {}, now)


def sending(ledger: Ledger, now: float = 410.0, destination: str = "archive") -> list[Parcel]:
    """Start every delivery to a destination that is due."""
    return ledger.deliveries.start(ledger.deliveries.ready(destination, now, 100), now)


def delivery_of(ledger: Ledger, delivery_id: int = 1) -> Delivery:
    [found] = [
        parcel.delivery
        for parcel in ledger.deliveries.in_states(*DeliveryState)
        if parcel.delivery.delivery_id == delivery_id
    ]
    return found


def moves_of(ledger: Ledger, subject: str) -> list[tuple[str, str, str]]:
    """Return (event, from, to) of a subject's events, oldest first."""
    return [(e.event, e.from_state, e.to_state) for e in ledger.events.of(subject)]


def uids(instances: Sequence[Instance]) -> list[str]:
    return [instance.sop_instance_uid for instance in instances]
