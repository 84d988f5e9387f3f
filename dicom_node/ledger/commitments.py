"""Requests for storage commitment: what each asks, what we hold of it, how far its report is."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, and_, delete, func, insert, select

from dicom_node.ledger import schema
from dicom_node.ledger.database import Database
from dicom_node.ledger.events import write_event
from dicom_node.ledger.transitions import Transitions, is_due, untried
from dicom_node.lifecycle import CommitmentEvent, CommitmentState, next_commitment_state
from dicom_node.model import Commitment, CommitmentOutcome, Instance, ReferencedInstance

_MOVES = Transitions[CommitmentState, CommitmentEvent](
    schema.commitments, "commitment", next_commitment_state
)

NO_SUCH_INSTANCE = 0x0112
"""(0008,1197) Failure Reason: not available here (PS3.3 C.14.1.1)."""
CLASS_INSTANCE_CONFLICT = 0x0119
"""(0008,1197) Failure Reason: it is of another SOP Class here."""


class Commitments:
    """The part of the ledger that the storage commitment SCP and its reporter work off."""

    def __init__(self, database: Database) -> None:
        self._database = database

    # ------------------------------------------------------------ reading

    def get(self, commitment_id: int) -> Commitment | None:
        found = self._read(schema.commitments.c.commitment_id == commitment_id)
        return found[0] if found else None

    def in_states(self, *states: CommitmentState) -> list[Commitment]:
        return self._read(schema.commitments.c.state.in_([state.value for state in states]))

    def ready(self, calling_ae_title: str, now: float, limit: int) -> list[Commitment]:
        """Return what can be reported to a requestor now, the oldest first."""
        table = schema.commitments
        return self._read(
            table.c.calling_ae_title == calling_ae_title,
            table.c.state == CommitmentState.PENDING.value,
            is_due(table.c.not_before, now),
            limit=limit,
        )

    def requestors_ready(self, now: float) -> list[str]:
        """Return the AE titles that something can be reported to now."""
        table = schema.commitments
        query = (
            select(table.c.calling_ae_title)
            .where(table.c.state == CommitmentState.PENDING.value, is_due(table.c.not_before, now))
            .distinct()
            .order_by(table.c.calling_ae_title)
        )
        with self._database.reading() as connection:
            return list(connection.execute(query).scalars())

    def counts(self) -> dict[CommitmentState, int]:
        table = schema.commitments
        with self._database.reading() as connection:
            rows = connection.execute(select(table.c.state, func.count()).group_by(table.c.state))
            return {CommitmentState(state): count for state, count in rows}

    def outcome(
        self, commitment: Commitment, is_held: Callable[[Instance], bool]
    ) -> CommitmentOutcome:
        """Return which of the instances that a commitment names we hold at this moment.

        Parameters
        ----------
        is_held : callable
            Whether the bytes of an instance can be found.
        """
        reference, i = schema.commitment_references, schema.instances
        mine = reference.c.commitment_id == commitment.commitment_id
        references = (
            select(reference.c.sop_class_uid, reference.c.sop_instance_uid)
            .where(mine)
            .order_by(reference.c.reference_number)
        )
        instances = (
            select(*[i.c[field.name] for field in fields(Instance)])
            .join(reference, reference.c.sop_instance_uid == i.c.sop_instance_uid)
            .where(mine)
        )
        known: dict[str, list[Instance]] = {}
        with self._database.reading() as connection:
            wanted = [ReferencedInstance(*row) for row in connection.execute(references)]
            for row in connection.execute(instances):
                instance = Instance(*row)
                known.setdefault(instance.sop_instance_uid, []).append(instance)
        return judge(wanted, known, is_held)

    # ------------------------------------------------------------ working

    def request(
        self,
        transaction_uid: str,
        calling_ae_title: str,
        references: Iterable[ReferencedInstance],
        not_before: float,
        now: float,
    ) -> Commitment:
        """Record a request, to be reported on an association of ours from `not_before` on.

        The same requestor's request under the same Transaction UID takes the place of its first.
        """
        with self._database.writing() as connection:
            key = self._made_or_renewed(
                connection, transaction_uid, calling_ae_title, not_before, now
            )
            connection.execute(
                insert(schema.commitment_references),
                [
                    {
                        "commitment_id": key,
                        "reference_number": number,
                        "sop_class_uid": reference.sop_class_uid,
                        "sop_instance_uid": reference.sop_instance_uid,
                    }
                    for number, reference in enumerate(dict.fromkeys(references), 1)
                ],
            )
            table = schema.commitments
            columns = [table.c[field.name] for field in fields(Commitment)]
            row = connection.execute(select(*columns).where(table.c.commitment_id == key)).one()
            return _commitment(row)

    def _made_or_renewed(
        self,
        connection: Connection,
        transaction_uid: str,
        calling_ae_title: str,
        not_before: float,
        now: float,
    ) -> int:
        """Return the number of a commitment without references, PENDING from `not_before` on."""
        table = schema.commitments
        made = self._database.insert_new(
            connection,
            table,
            {
                "transaction_uid": transaction_uid,
                "calling_ae_title": calling_ae_title,
                **untried(CommitmentState.PENDING, "not decided yet", not_before, now),
            },
        )
        known = connection.execute(
            select(table.c.commitment_id, table.c.state, table.c.attempt)
            .where(
                table.c.calling_ae_title == calling_ae_title,
                table.c.transaction_uid == transaction_uid,
            )
            .with_for_update()
        ).one()
        key = int(known.commitment_id)
        if made:
            reason = f"requested by {calling_ae_title} as {transaction_uid}"
            subject = ("commitment", str(key))
            write_event(connection, now, subject, "CREATED", reason, "", CommitmentState.PENDING)
            return key
        _MOVES.move(
            connection,
            key,
            CommitmentState(known.state),
            CommitmentEvent.RETRIED,
            "requested again",
            now,
            attempt=known.attempt + 1,
            not_before=not_before,
            tried_since=now,
            failures=0,
        )
        rows = schema.commitment_references
        connection.execute(delete(rows).where(rows.c.commitment_id == key))
        return key

    def acknowledged_at_once(self, commitment: Commitment, reason: str, now: float) -> bool:
        """The requestor took the report on the association of its request."""
        return self._move(
            commitment, CommitmentState.PENDING, CommitmentEvent.ACKNOWLEDGED, reason, now
        )

    def not_acknowledged_at_once(
        self, commitment: Commitment, reason: str, now: float, not_before: float | None = None
    ) -> bool:
        """It did not; the report goes out on an association of ours, from now on or later."""
        return self._move(
            commitment,
            CommitmentState.PENDING,
            CommitmentEvent.POSTPONED,
            reason,
            now,
            not_before=now if not_before is None else not_before,
        )

    def nobody_reports_at_once(self, reason: str, now: float) -> int:
        """Have each report that waits for its request's association go out on one of ours now.

        Returns
        -------
        int
            How many waited.
        """
        table = schema.commitments
        waiting = self._read(
            table.c.state == CommitmentState.PENDING.value,
            table.c.failures == 0,  # the others wait for a requestor that was not there
            table.c.not_before > now,
        )
        return sum(self.not_acknowledged_at_once(one, reason, now) for one in waiting)

    def start(self, commitments: Sequence[Commitment], now: float) -> list[Commitment]:
        """Take commitments for one more attempt; return those that were still to be had."""
        taken = []
        for commitment in commitments:
            attempt = commitment.attempt + 1
            if self._move(
                commitment,
                CommitmentState.PENDING,
                CommitmentEvent.STARTED,
                f"attempt {attempt}",
                now,
                attempt=attempt,
            ):
                state = CommitmentState.REPORTING
                taken.append(replace(commitment, attempt=attempt, state=state))
        return taken

    def acknowledged(self, commitment: Commitment, reason: str, now: float) -> bool:
        return self._end_attempt(commitment, CommitmentEvent.ACKNOWLEDGED, reason, now)

    def postpone(self, commitment: Commitment, reason: str, not_before: float, now: float) -> bool:
        return self._end_attempt(
            commitment,
            CommitmentEvent.POSTPONED,
            reason,
            now,
            not_before=not_before,
            failures=commitment.failures + 1,
        )

    def give_up(self, commitment: Commitment, reason: str, now: float) -> bool:
        return self._end_attempt(commitment, CommitmentEvent.GIVEN_UP, reason, now)

    def interrupt(self, commitment: Commitment, reason: str, now: float) -> bool:
        """Nobody has this report in hand any more: it may or may not have arrived."""
        return self._end_attempt(
            commitment, CommitmentEvent.INTERRUPTED, reason, now, not_before=now
        )

    def retry(self, commitment_id: int, now: float) -> bool:
        """Report a dead or reported commitment again, with a clean count."""
        commitment = self.get(commitment_id)
        ended = {CommitmentState.DEAD, CommitmentState.REPORTED}
        if commitment is None or commitment.state not in ended:
            return False
        return self._move(
            commitment,
            commitment.state,
            CommitmentEvent.RETRIED,
            "retried by the operator",
            now,
            attempt=commitment.attempt + 1,
            not_before=now,
            tried_since=now,
            failures=0,
        )

    def _end_attempt(
        self, commitment: Commitment, event: CommitmentEvent, reason: str, now: float, **values: Any
    ) -> bool:
        return self._move(commitment, CommitmentState.REPORTING, event, reason, now, **values)

    def _move(
        self,
        commitment: Commitment,
        state: CommitmentState,
        event: CommitmentEvent,
        reason: str,
        now: float,
        **values: Any,
    ) -> bool:
        with self._database.writing() as connection:
            return _MOVES.move(
                connection,
                commitment.commitment_id,
                state,
                event,
                reason,
                now,
                schema.commitments.c.attempt == commitment.attempt,
                **values,
            )

    def _read(self, *conditions: ColumnElement[bool], limit: int | None = None) -> list[Commitment]:
        table = schema.commitments
        query = (
            select(*[table.c[field.name] for field in fields(Commitment)])
            .where(and_(*conditions))
            .order_by(table.c.commitment_id)
            .limit(limit)
        )
        with self._database.reading() as connection:
            return [_commitment(row) for row in connection.execute(query)]


def judge(
    references: Iterable[ReferencedInstance],
    known: Mapping[str, Sequence[Instance]],
    is_held: Callable[[Instance], bool],
) -> CommitmentOutcome:
    """Return which references we commit to keep, and why not the others. Pure, but for `is_held`.

    Parameters
    ----------
    known : mapping
        The ledger's instances by SOP Instance UID: one can be in two studies.
    is_held : callable
        Whether the bytes of an instance can be found.

    References
    ----------
    PS3.3 C.14.1.1 (Failure Reason)
    """
    committed, failed = [], []
    for reference in references:
        instances = known.get(reference.sop_instance_uid, ())
        same_class = [i for i in instances if i.sop_class_uid == reference.sop_class_uid]
        if any(is_held(instance) for instance in same_class):
            committed.append(reference)
        elif instances and not same_class:
            failed.append((reference, CLASS_INSTANCE_CONFLICT))
        else:
            failed.append((reference, NO_SUCH_INSTANCE))
    return CommitmentOutcome(tuple(committed), tuple(failed))


def _commitment(row: Row[Any]) -> Commitment:
    return Commitment(**{**row._mapping, "state": CommitmentState(row.state)})
