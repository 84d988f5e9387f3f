"""`dicom-node explain`: for each rule why it matches or not, and what happened to a study."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console

from dicom_node.cli.compare import told
from dicom_node.cli.console import make_console
from dicom_node.cli.files import find_series, studies_of
from dicom_node.cli.status import fetch_name
from dicom_node.conditions import Answer
from dicom_node.config.loading import load_config
from dicom_node.errors import StudyUnusable
from dicom_node.ledger.ledger import Ledger
from dicom_node.ledger.verdicts import KeptVerdict
from dicom_node.lifecycle import DeliveryState
from dicom_node.model import Attributes, Event, JobRole, Study
from dicom_node.plan import Plan, build_router, load_plan
from dicom_node.route.decide import decide
from dicom_node.route.decision import Decision, Order, RuleOutcome
from dicom_node.route.facts import SeriesFacts, StudyFacts
from dicom_node.route.rules import Level
from dicom_node.trials import TrialMode
from dicom_node.uid import is_uid

_VERDICTS = {
    Answer.YES: "matches",
    Answer.NO: "does not match",
    Answer.UNKNOWN: "is not decided yet",
    Answer.ERROR: "cannot be judged",
}
_MARKS = {Answer.YES: "+", Answer.NO: "-", Answer.UNKNOWN: "?", Answer.ERROR: "!"}


def explain(config_file: Path, subject: str, every_condition: bool = False) -> None:
    """Print what the rules say of a file, a folder, or a study in the ledger.

    Parameters
    ----------
    every_condition : bool
        Print each condition with its value, and nothing else of a study.

    Raises
    ------
    StudyUnusable
        If there is no such file and no such study.
    """
    console = make_console(wraps=False)
    plan = load_plan(load_config(config_file))
    if Path(subject).exists():
        _explain_files(console, plan, Path(subject), every_condition)
    elif is_uid(subject):
        _explain_study(console, plan, subject, every_condition)
    else:
        raise StudyUnusable(
            f"{subject} is no file, no folder and no UID",
            hint="name a DICOM file, a folder or a Study Instance UID",
        )


def _explain_files(console: Console, plan: Plan, source: Path, every_condition: bool) -> None:
    series, unreadable = find_series(source)
    for facts in studies_of(series):
        print_decision(console, plan, facts, decide(plan.rules, facts), every_condition)
    for broken in unreadable:
        console.print(f"{broken.path}: {broken.reason}", style="red")


def _explain_study(console: Console, plan: Plan, uid: str, every_condition: bool) -> None:
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
    facts, decision = router.examine(study, asked)
    print_decision(console, plan, facts, decision, every_condition)
    if not every_condition:
        _tell_story(console, ledger, study)


def _tell_story(console: Console, ledger: Ledger, study: Study) -> None:
    """Print what was done for a study, and what happened to it."""
    comparisons = ledger.trials.of_study(study.study_instance_uid)
    for job in ledger.jobs.of_study(study.study_instance_uid):
        role = "" if job.role is JobRole.CURRENT else f" ({job.role})"
        what = f"job {job.job_id}: {job.engine_name} {job.engine_version}{role}, {job.state}"
        console.print(f"{what}: {job.summary or job.reason}")
        fetch = ledger.fetches.for_job(job.job_id)
        if fetch is not None:
            what = f"  prior studies {fetch_name(fetch)} from {fetch.source}"
            console.print(f"{what}, {fetch.state}: {fetch.reason}")
        _print_events(console, ledger.events.of(job.job_id))
        for comparison in comparisons:
            if comparison.current_job_id == job.job_id:
                console.print(f"  {told(comparison, ledger.trials.get(comparison.trial_id))}")
        for parcel in ledger.deliveries.of_job(job.job_id):
            delivery = parcel.delivery
            what = f"{parcel.result.kind} to {delivery.destination}"
            console.print(
                f"  delivery {delivery.delivery_id}: {what}, {delivery.state}: {delivery.reason}",
            )
    for forward in ledger.forwards.of_study(study.study_instance_uid):
        sent, refused, total = ledger.forwards.progress(forward.forward_id)
        proof, _ = ledger.forwards.proof(forward.forward_id)
        proven = proof.get(DeliveryState.PROVEN, 0)
        console.print(
            f"forward f{forward.forward_id} to {forward.destination} by rule {forward.rule}, "
            f"{forward.state}: {sent} of {total} sent, {proven} proven, {refused} refused; "
            f"{forward.reason}"
        )
    console.print("what happened to the study:")
    _print_events(console, ledger.events.of(study.study_instance_uid))


def print_decision(
    console: Console,
    plan: Plan,
    facts: StudyFacts,
    decision: Decision,
    every_condition: bool = False,
) -> None:
    """Print what each rule says of a study, its series and instances, and what follows."""
    for series in facts.series:
        count = len(series.instances)
        console.print(f"series {series.series_instance_uid} ({_title(series)}, {count} instances)")
        mine = [one for one in decision.outcomes if one.subject == series.series_instance_uid]
        _print_outcomes(console, mine, every_condition)
        uids = {one.sop_instance_uid for one in series.instances}
        _print_instances(console, [one for one in decision.outcomes if one.subject in uids])
        for order in decision.orders:
            if order.series_instance_uid == series.series_instance_uid:
                _print_engine(console, plan, order.engine, series.attributes)
                _print_trial(console, order)
    of_study = [one for one in decision.outcomes if one.subject == facts.study_instance_uid]
    if of_study:
        console.print(f"study {facts.study_instance_uid} as a whole")
        _print_outcomes(console, of_study, every_condition)
    console.print(f"what follows: {decision.reason}")


def _title(series: SeriesFacts) -> str:
    attributes = series.attributes
    words = [*attributes.get("Modality", ()), *attributes.get("SeriesDescription", ())]
    return " ".join(word for word in words if word) or "without a description"


def _print_outcomes(
    console: Console, outcomes: Sequence[RuleOutcome], every_condition: bool
) -> None:
    for one in outcomes:
        console.print(f"  rule {one.rule.name} {_VERDICTS[one.answer]}: {one.reason}")
        if every_condition:
            for answer, reason in one.outcome.leaves():
                console.print(f"    {_MARKS[answer]} {reason}")


def _print_instances(console: Console, outcomes: Sequence[RuleOutcome]) -> None:
    """Print one line for each rule on instances: of how many it says what."""
    by_rule: dict[str, list[RuleOutcome]] = {}
    for one in outcomes:
        if one.rule.level is Level.INSTANCE:
            by_rule.setdefault(one.rule.name, []).append(one)
    for name, of_rule in by_rule.items():
        matching = sum(one.count for one in of_rule if one.answer is Answer.YES)
        tried = sum(one.count for one in of_rule)
        example = next((o for o in of_rule if o.answer is Answer.YES), of_rule[0])
        console.print(f"  rule {name} matches {matching} of {tried} instances: {example.reason}")


def _print_engine(console: Console, plan: Plan, engine: str, attributes: Attributes) -> None:
    manifest = plan.engines[engine]
    refused = [
        checked.reason
        for checked in (condition.check(attributes) for condition in manifest.accepts)
        if not checked.holds
    ]
    verdict = f"would refuse it: {'; '.join(refused)}" if refused else "accepts it"
    console.print(f"  engine {engine} {verdict}")


def _print_trial(console: Console, order: Order) -> None:
    trial = order.trial
    if trial is None:
        return
    if not order.is_tried:
        console.print(
            f"  {trial.mode} {trial.engine} leaves this study out: its share is {trial.share:.4g}"
        )
    elif trial.mode is TrialMode.CANARY:
        console.print(f"  canary {trial.engine} is sent in place of {order.engine}")
    else:
        console.print(f"  shadow {trial.engine} runs beside {order.engine} and is not sent")


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
