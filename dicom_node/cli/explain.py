"""`dicom-node explain`: for each rule why it matches or not, and what happened to a study."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console

from dicom_node.cli.console import make_console
from dicom_node.cli.files import find_series
from dicom_node.config.settings import load_config
from dicom_node.errors import StudyUnusable
from dicom_node.ledger.ledger import Ledger
from dicom_node.ledger.verdicts import KeptVerdict
from dicom_node.model import Attributes, Event
from dicom_node.node import Plan, build_router, load_plan
from dicom_node.route.rules import RuleOutcome, orders, try_rules
from dicom_node.uid import is_uid


def explain(config_file: Path, subject: str) -> None:
    """Print what the rules say of a file, a folder, or a study in the ledger.

    Raises
    ------
    StudyUnusable
        If there is no such file and no such study.
    """
    console = make_console(wraps=False)
    plan = load_plan(load_config(config_file))
    if Path(subject).exists():
        _explain_files(console, plan, Path(subject))
    elif is_uid(subject):
        _explain_study(console, plan, subject)
    else:
        raise StudyUnusable(
            f"{subject} is no file, no folder and no UID",
            hint="name a DICOM file, a folder or a Study Instance UID",
        )


def _explain_files(console: Console, plan: Plan, source: Path) -> None:
    series, unreadable = find_series(source)
    for one in series:
        console.print(f"series {one.series_instance_uid} ({one.title})")
        outcomes = try_rules(plan.rules, one.attributes)
        _print_outcomes(console, plan, outcomes, one.attributes)
    for broken in unreadable:
        console.print(f"{broken.path}: {broken.reason}", style="red")


def _explain_study(console: Console, plan: Plan, uid: str) -> None:
    ledger = Ledger(plan.config.ledger_url)
    ledger.require_current()
    study_uid = uid if ledger.studies.get(uid) else ledger.studies.study_of_instance(uid)
    study = ledger.studies.get(study_uid) if study_uid else None
    if study is None:
        raise StudyUnusable(
            f"{uid} is not in the ledger", hint="the sender may have been refused: see status"
        )
    console.print(f"study {study.study_instance_uid}")
    console.print(f"  {study.state}, revision {study.revision}: {study.reason}")
    _print_verdicts(console, ledger.verdicts.of_study(study.study_instance_uid))
    router = build_router(plan, ledger, time.time)
    asked = {c.keyword for manifest in plan.engines.values() for c in manifest.accepts}
    for series in router.examine(study.study_instance_uid, asked):
        console.print(
            f"series {series.series_instance_uid} ({len(series.instances)} instances)",
        )
        _print_outcomes(console, plan, series.outcomes, series.attributes)
    for job in ledger.jobs.of_study(study.study_instance_uid):
        what = f"job {job.job_id}: {job.engine_name} {job.engine_version}, {job.state}"
        console.print(f"{what}: {job.summary or job.reason}")
        _print_events(console, ledger.events.of(job.job_id))
        for parcel in ledger.deliveries.of_job(job.job_id):
            delivery = parcel.delivery
            what = f"{parcel.result.kind} to {delivery.destination}"
            console.print(
                f"  delivery {delivery.delivery_id}: {what}, {delivery.state}: {delivery.reason}",
            )
    console.print("what happened to the study:")
    _print_events(console, ledger.events.of(study.study_instance_uid))


def _print_outcomes(
    console: Console, plan: Plan, outcomes: Sequence[RuleOutcome], attributes: Attributes
) -> None:
    for outcome in outcomes:
        verdict = "matches" if outcome.matches else "does not match"
        console.print(f"  rule {outcome.rule.name} {verdict}: {outcome.reason}")
    for order in orders(outcomes):
        manifest = plan.engines[order.engine]
        refused = [
            checked.reason
            for checked in (condition.check(attributes) for condition in manifest.accepts)
            if not checked.holds
        ]
        verdict = f"would refuse it: {'; '.join(refused)}" if refused else "accepts it"
        console.print(f"  engine {order.engine} {verdict}")


def _print_verdicts(console: Console, verdicts: Sequence[KeptVerdict]) -> None:
    for verdict in verdicts:
        of = f"series {verdict.series_instance_uid}" if verdict.series_instance_uid else "study"
        console.print(f"  revision {verdict.revision}, {of}: {verdict.certainty}")
        for voice, words in (("for", verdict.for_), ("against", verdict.against)):
            if words:
                console.print(f"    {voice} it: {'; '.join(words)}")


def _print_events(console: Console, events: Sequence[Event]) -> None:
    for event in events:
        at = datetime.fromtimestamp(event.at, UTC).strftime("%Y-%m-%d %H:%M:%S")
        move = f" {event.from_state or 'nothing'} -> {event.to_state}" if event.to_state else ""
        console.print(f"  {at} {event.event}{move}: {event.reason}")
