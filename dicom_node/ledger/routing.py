"""What the rules made of a study, recorded in one transaction; and what they were."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, delete, exists, func, insert, select

from dicom_node.ledger import schema
from dicom_node.ledger.database import Database
from dicom_node.ledger.events import write_event
from dicom_node.ledger.fetches import PlannedFetch, plan_fetch
from dicom_node.ledger.forward_plans import plan_forward, withdraw
from dicom_node.ledger.jobs import Jobs
from dicom_node.ledger.studies import Studies
from dicom_node.ledger.trials import PlannedComparison, plan_comparison
from dicom_node.lifecycle import JobState, StudyEvent, StudyState
from dicom_node.model import Drop, Forward, Job, Study

_FOUND = (JobState.DONE, JobState.REFUSED, JobState.PARKED)


@dataclass(frozen=True)
class Plan:
    """Everything that follows for a study."""

    reason: str
    rule_set: str
    """Its digest, from `Routing.keep_rule_set`."""
    completeness: str
    decided: Mapping[str, Any]
    """The decision for the record, as JSON has it."""
    jobs: tuple[Job, ...] = ()
    fetches: tuple[PlannedFetch, ...] = ()
    """The prior studies that some of the jobs wait for."""
    comparisons: tuple[PlannedComparison, ...] = ()
    """The candidates' jobs among `jobs`, each with that of the version in use."""
    forwards: tuple[Forward, ...] = ()
    drops: tuple[Drop, ...] = ()
    notices: tuple[str, ...] = ()
    awaited: tuple[tuple[str, str], ...] = ()
    """(Series Instance UID, engine) of the findings that rules wait for."""
    parked: StudyEvent | None = None
    """Why a person has to look at it first; then nothing else is done."""


@dataclass(frozen=True)
class Decided:
    """A decision as it was recorded."""

    study_instance_uid: str
    revision: int
    rule_set: str
    completeness: str
    decided: Mapping[str, Any]
    decided_at: float


class Routing:
    """The part of the ledger that the router writes."""

    def __init__(self, database: Database, studies: Studies, jobs: Jobs) -> None:
        self._database = database
        self._studies = studies
        self._jobs = jobs

    def keep_rule_set(self, text: str, now: float) -> str:
        """Remember the text of a rule set; return its name."""
        rule_set = hashlib.sha256(text.encode()).hexdigest()
        row = {"rule_set": rule_set, "text": text, "loaded_at": now}
        with self._database.writing() as connection:
            self._database.insert_new(connection, schema.rule_sets, row)
        return rule_set

    def record(self, study: Study, plan: Plan, now: float) -> bool:
        """Record what the rules made of a complete study.

        A job that exists already has the same input and the same engine: its results stand, and it
        is not made again. Open jobs of this study that the decision no longer asks for are
        superseded. What was forwarded stays so; what is dropped and was not sent yet is not sent.

        Returns
        -------
        bool
            False if the study moved on meanwhile; then nothing was changed.
        """
        with self._database.writing() as connection:
            if plan.parked is not None:
                if not self._studies.parked(connection, study, plan.parked, plan.reason, now):
                    return False
            elif not self._studies.routed(connection, study, plan.reason, now):
                return False
            self._note(connection, study, plan, now)
            if plan.parked is None:
                self._jobs.order(connection, study, plan.jobs, now)
                for fetch in plan.fetches:
                    plan_fetch(connection, fetch, now)
                for comparison in plan.comparisons:
                    plan_comparison(connection, comparison, now)
                for forward in plan.forwards:
                    plan_forward(connection, study.study_instance_uid, forward, now)
            return True

    def forward_at_once(
        self, study_instance_uid: str, forwards: Sequence[Forward], now: float
    ) -> int:
        """Forward instances of a study that is still arriving; return how many are new."""
        if not forwards:
            return 0
        with self._database.writing() as connection:
            return sum(
                plan_forward(connection, study_instance_uid, forward, now) for forward in forwards
            )

    def dropped(self, study_instance_uid: str) -> dict[tuple[str, str], tuple[str, str]]:
        """Return rule and reason by (Series, SOP Instance UID) of what was dropped last."""
        table = schema.drops
        query = select(table).where(table.c.study_instance_uid == study_instance_uid)
        with self._database.reading() as connection:
            return {
                (row.series_instance_uid, row.sop_instance_uid): (row.rule, row.reason)
                for row in connection.execute(query)
            }

    def found(self) -> list[tuple[str, str]]:
        """Return (study, engine) where a rule waits for a finding that is there by now.

        It is not while the same engine still has work on the same series: that counts, not what it
        found before with other parameters.
        """
        a, j, s = schema.awaited_findings, schema.jobs, schema.studies
        o = j.alias()
        still_open = exists().where(
            o.c.study_instance_uid == a.c.study_instance_uid,
            o.c.series_instance_uid == a.c.series_instance_uid,
            o.c.engine_name == a.c.engine_name,
            o.c.state.in_([JobState.QUEUED.value, JobState.RUNNING.value]),
        )
        query = (
            select(a.c.study_instance_uid, a.c.engine_name)
            .join(
                j,
                (j.c.study_instance_uid == a.c.study_instance_uid)
                & (j.c.series_instance_uid == a.c.series_instance_uid)
                & (j.c.engine_name == a.c.engine_name),
            )
            .join(s, s.c.study_instance_uid == a.c.study_instance_uid)
            .where(
                s.c.state == StudyState.ROUTED.value,
                j.c.revision == s.c.revision,
                j.c.state.in_([state.value for state in _FOUND]),
                ~still_open,
            )
            .distinct()
        )
        with self._database.reading() as connection:
            return [(row.study_instance_uid, row.engine_name) for row in connection.execute(query)]

    def decisions(self, study_instance_uid: str) -> list[Decided]:
        """Return what was decided of a study, the oldest first."""
        table = schema.decisions
        return self._read(table.c.study_instance_uid == study_instance_uid)

    def last_rule_set(self) -> str | None:
        """Return the text of the rules by which a study was routed last; None if none was."""
        d, r = schema.decisions, schema.rule_sets
        query = (
            select(r.c.text)
            .join(d, d.c.rule_set == r.c.rule_set)
            .order_by(d.c.decided_at.desc(), d.c.decision_number.desc())
            .limit(1)
        )
        with self._database.reading() as connection:
            return connection.execute(query).scalars().first()

    def _read(self, condition: Any) -> list[Decided]:
        table = schema.decisions
        query = select(table).where(condition).order_by(table.c.decided_at, table.c.decision_number)
        with self._database.reading() as connection:
            return [
                Decided(
                    row.study_instance_uid,
                    row.revision,
                    row.rule_set,
                    row.completeness,
                    row.decided,
                    row.decided_at,
                )
                for row in connection.execute(query)
            ]

    def _note(self, connection: Connection, study: Study, plan: Plan, now: float) -> None:
        """Write down the decision, its drops, its notices and what it waits for."""
        uid = study.study_instance_uid
        table = schema.decisions
        mine = table.c.study_instance_uid == uid
        number = connection.execute(
            select(func.coalesce(func.max(table.c.decision_number), 0) + 1).where(mine)
        ).scalar_one()
        connection.execute(
            insert(table).values(
                study_instance_uid=uid,
                decision_number=number,
                revision=study.revision,
                rule_set=plan.rule_set,
                completeness=plan.completeness,
                decided=dict(plan.decided),
                decided_at=now,
            )
        )
        self._drop(connection, uid, plan.drops, now)
        self._notify(connection, uid, plan.notices, now)
        awaited = schema.awaited_findings
        connection.execute(delete(awaited).where(awaited.c.study_instance_uid == uid))
        for series_instance_uid, engine in dict.fromkeys(plan.awaited):
            row = {
                "study_instance_uid": uid,
                "series_instance_uid": series_instance_uid,
                "engine_name": engine,
            }
            connection.execute(insert(awaited).values(row))

    def _drop(self, connection: Connection, uid: str, drops: Sequence[Drop], now: float) -> None:
        table = schema.drops
        here = table.c.study_instance_uid == uid
        before = {
            (row.sop_instance_uid, row.rule)
            for row in connection.execute(
                select(table.c.sop_instance_uid, table.c.rule).where(here)
            )
        }
        connection.execute(delete(table).where(here))
        for drop in drops:
            rows = [
                {
                    "study_instance_uid": uid,
                    "series_instance_uid": key.series_instance_uid,
                    "sop_instance_uid": key.sop_instance_uid,
                    "rule": drop.rule,
                    "reason": drop.reason,
                    "dropped_at": now,
                }
                for key in drop.instances
            ]
            if rows:
                connection.execute(insert(table), rows)
            new = [k for k in drop.instances if (k.sop_instance_uid, drop.rule) not in before]
            if new:
                reason = f"{len(new)} instances by rule {drop.rule}: {drop.reason}"
                write_event(connection, now, ("study", uid), "DROPPED", reason)
        withdraw(connection, uid, [key for drop in drops for key in drop.instances])

    def _notify(self, connection: Connection, uid: str, notices: Sequence[str], now: float) -> None:
        """Tell what has not been told of this study before."""
        table = schema.events
        query = select(table.c.reason).where(table.c.subject == uid, table.c.event == "NOTICE")
        told = set(connection.execute(query).scalars())
        for notice in dict.fromkeys(notices):
            if notice not in told:
                write_event(connection, now, ("study", uid), "NOTICE", notice)
