"""`dicom-node status`: what is open and why."""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.table import Table

from dicom_node.cli.console import make_console, make_table
from dicom_node.config.loading import load_config
from dicom_node.ledger.deliveries import Parcel
from dicom_node.ledger.ledger import Ledger
from dicom_node.lifecycle import (
    CommitmentState,
    DeliveryState,
    FetchState,
    JobState,
    StudyState,
    TrialState,
)
from dicom_node.model import Breaker, Commitment, Delivery, ForwardTask, Job, JobRole, Study
from dicom_node.priors import PriorFetch
from dicom_node.trials import Trial

_REFUSED = ("REJECTED", "REFUSED")
_DOUBTFUL = ("REPLACED", "KEPT_FIRST", "UNREADABLE", "NOTICE", "NOT_FORWARDED")
_REFUSALS_SHOWN = 1000
_OPEN_STUDIES = (StudyState.RECEIVING, StudyState.COMPLETE, StudyState.PARKED)
_OPEN_JOBS = (JobState.QUEUED, JobState.RUNNING, JobState.PARKED)
_OPEN_COMMITMENTS = (CommitmentState.PENDING, CommitmentState.REPORTING, CommitmentState.DEAD)
_OPEN_DELIVERIES = (
    DeliveryState.PENDING,
    DeliveryState.SENDING,
    DeliveryState.SENT,
    DeliveryState.DEAD,
)
_OPEN_FETCHES = (FetchState.PENDING, FetchState.FETCHING, FetchState.DEAD)


_Row = Study | Job | Delivery | Breaker | ForwardTask | PriorFetch | Commitment | Trial


@dataclass(frozen=True)
class OpenItem:
    """A study, job, delivery, forward, fetch, commitment, trial or destination that waits."""

    what: str
    name: str
    state: str
    study_instance_uid: str
    since_s: float
    reason: str


@dataclass(frozen=True)
class Refusal:
    """What the door or an engine would not take; nothing will happen to it by itself."""

    what: str
    name: str
    at: float
    times: int
    reason: str


def commitment_name(commitment: Commitment) -> str:
    """Return what an operator calls a commitment: its number, told apart from a delivery's."""
    return f"c{commitment.commitment_id}"


def forward_name(forward: ForwardTask) -> str:
    """Return what an operator calls a forward: its number, told apart from a delivery's."""
    return f"f{forward.forward_id}"


def fetch_name(fetch: PriorFetch) -> str:
    """Return what an operator calls a fetch of priors: its number, told apart from a delivery's."""
    return f"p{fetch.fetch_id}"


def status(config_file: Path, as_json: bool, refused: bool) -> None:
    """Print what is open; with `refused`, whom and what the door and the engines refused."""
    config = load_config(config_file)
    ledger = Ledger(config.ledger_url)
    ledger.require_current()
    console = make_console(wraps=not (as_json or refused))
    items = open_items(ledger, time.time())
    refusals = last_refusals(ledger) if as_json or refused else []
    refused_count = ledger.events.count(*_REFUSED) + len(_refused_jobs(ledger))
    doubtful = ledger.events.count(*_DOUBTFUL)
    unproven = ledger.deliveries.count_unproven(not_to=config.believed)
    unproven += ledger.forwards.count_unproven(not_to=config.believed)
    originals = ledger.forwards.instance_counts()
    counts = {
        "jobs": {str(state): n for state, n in ledger.jobs.counts().items()},
        "deliveries": {str(state): n for state, n in ledger.deliveries.counts().items()},
        "forwards": {str(state): n for state, n in ledger.forwards.counts().items()},
    }
    ledger.close()
    if as_json:
        document = {
            "open": [asdict(item) for item in items],
            **counts,
            "originals": originals,
            "refused": [asdict(refusal) for refusal in refusals],
        }
        console.print(json.dumps(document))
    elif refused:
        for refusal in refusals:
            at = datetime.fromtimestamp(refusal.at, UTC).strftime("%Y-%m-%d %H:%M:%S")
            often = f" ({refusal.times} times)" if refusal.times > 1 else ""
            console.print(f"{at} {refusal.what} {refusal.name}{often}: {refusal.reason}")
    else:
        for name, by_state in sorted(originals.items()):
            counts[f"originals to {name}"] = {str(state): n for state, n in by_state.items()}
        _print(console, items, counts, unproven, refused_count, doubtful)


def print_dead(config_file: Path, as_json: bool) -> None:
    """Print what was given up, and what nobody can prove, with reason and hint."""
    config = load_config(config_file)
    ledger = Ledger(config.ledger_url)
    ledger.require_current()
    found = dead_letters(ledger, config.believed, time.time())
    letters = sorted(found, key=lambda item: item.since_s)
    ledger.close()
    console = make_console(wraps=False)
    if as_json:
        console.print(json.dumps({"dead": [asdict(letter) for letter in letters]}))
        return
    for letter in letters:
        study = f" of study {letter.study_instance_uid}" if letter.study_instance_uid else ""
        console.print(f"{letter.what} {letter.name} {letter.state}{study}: {letter.reason}")
    if letters:
        console.print("`dicom-node retry NAME` tries one again, `retry --all` what is dead")
    else:
        console.print("nothing is dead, nothing unproven")


def dead_letters(ledger: Ledger, believed: Collection[str], now: float) -> list[OpenItem]:
    """Return what was given up, and what was delivered and not proven where it has to be."""
    dead = [item for item in open_items(ledger, now) if item.state == DeliveryState.DEAD]
    for parcel in ledger.deliveries.unproven(not_to=believed):
        dead.append(_open_item(*_delivery_row(parcel), now))
    for forward in ledger.forwards.unproven(not_to=believed):
        dead.append(_open_item(*_forward_row(ledger, forward), now))
    return dead


def last_refusals(ledger: Ledger) -> list[Refusal]:
    """Return the associations, instances and jobs that were refused last, the latest first.

    Also what a person should know of: instances that came again with other bytes, cannot be read,
    were dropped by a rule or not forwarded, and what a rule notes.
    """
    refusals = [
        Refusal(event.subject_kind, event.subject, event.at, times, event.reason)
        for event, times in ledger.events.summed(
            *_REFUSED, *_DOUBTFUL, "DROPPED", limit=_REFUSALS_SHOWN
        )
    ]
    refusals += [
        Refusal("job", job.job_id, job.updated_at, 1, f"{job.engine_name}: {job.reason}")
        for job in _refused_jobs(ledger)
    ]
    return sorted(refusals, key=lambda refusal: -refusal.at)[:_REFUSALS_SHOWN]


def _refused_jobs(ledger: Ledger) -> list[Job]:
    refused = ledger.jobs.in_states(JobState.REFUSED)
    return [job for job in refused if job.role is not JobRole.SHADOW]


def _print(
    console: Console,
    items: list[OpenItem],
    counts: Mapping[str, Mapping[str, int]],
    unproven: int,
    refusals: int,
    doubtful: int,
) -> None:
    for name, by_state in counts.items():
        words = ", ".join(f"{n} {state}" for state, n in sorted(by_state.items())) or "none"
        console.print(f"{name}: {words}")
    if items:
        console.print(_table(items))
    else:
        console.print("nothing is open")
    if unproven:
        console.print(
            f"{unproven} delivered, and nobody proves that they are there: `status --dead`"
        )
    if refusals:
        console.print(f"{refusals} refused at the door or by an engine: see `status --refused`")
    if doubtful:
        console.print(
            f"{doubtful} to be looked at (other bytes, unreadable, not forwarded, or "
            "noted by a rule): see `status --refused`"
        )


def open_items(ledger: Ledger, now: float) -> list[OpenItem]:
    """Return everything that has not come to its end, with its reason."""
    return [
        _open_item(what, name, row, study_instance_uid, reason, now)
        for what, name, row, study_instance_uid, reason in _open_rows(ledger)
    ]


def _open_item(
    what: str, name: str, row: _Row, study_instance_uid: str, reason: str, now: float
) -> OpenItem:
    return OpenItem(what, name, row.state, study_instance_uid, now - row.updated_at, reason)


def _delivery_row(parcel: Parcel) -> tuple[str, str, Delivery, str, str]:
    delivery, result = parcel.delivery, parcel.result
    reason = f"{result.kind} to {delivery.destination}: {delivery.reason}"
    return "delivery", str(delivery.delivery_id), delivery, result.study_instance_uid, reason


def _forward_row(ledger: Ledger, forward: ForwardTask) -> tuple[str, str, ForwardTask, str, str]:
    reason = f"originals to {forward.destination} by rule {forward.rule}: {forward.reason}"
    if forward.state is DeliveryState.SENT:
        proof, why = ledger.forwards.proof(forward.forward_id)
        reason += f", {proof.get(DeliveryState.PROVEN, 0)} proven; {why}"
    return "forward", forward_name(forward), forward, forward.study_instance_uid, reason


def _open_rows(ledger: Ledger) -> Iterator[tuple[str, str, _Row, str, str]]:
    """Yield kind, name, row, study and reason of what is open."""
    for study in ledger.studies.in_states(_OPEN_STUDIES):
        uid = study.study_instance_uid
        yield "study", uid, study, uid, study.reason
    for breaker in ledger.breakers.all_open():
        reason = f"nothing is sent to it, {breaker.failures} attempts in vain: {breaker.reason}"
        yield "destination", breaker.destination, breaker, "", reason
    for trial in ledger.trials.all():
        if trial.state is TrialState.STOPPED:
            yield "trial", trial.name, trial, "", f"{trial.candidate_engine}: {trial.reason}"
    for job in ledger.jobs.in_states(*_OPEN_JOBS):
        if job.role is JobRole.SHADOW:
            continue  # nobody waits for it: see --shadow
        reason = f"{job.engine_name}: {job.reason}"
        yield "job", job.job_id, job, job.study_instance_uid, reason
    for parcel in ledger.deliveries.in_states(*_OPEN_DELIVERIES):
        yield _delivery_row(parcel)
    for forward in ledger.forwards.in_states(*_OPEN_DELIVERIES):
        yield _forward_row(ledger, forward)
    for fetch in ledger.fetches.in_states(*_OPEN_FETCHES):
        reason = f"prior studies from {fetch.source}: {fetch.reason}"
        yield "priors", fetch_name(fetch), fetch, fetch.study_instance_uid, reason
    for commitment in ledger.commitments.in_states(*_OPEN_COMMITMENTS):
        reason = f"report to {commitment.calling_ae_title}: {commitment.reason}"
        yield "commitment", commitment_name(commitment), commitment, "", reason


def _table(items: list[OpenItem]) -> Table:
    table = make_table("what", "name", "state", "for", "why")
    for item in items:
        table.add_row(item.what, item.name, item.state, f"{item.since_s:.0f} s", item.reason)
    return table
