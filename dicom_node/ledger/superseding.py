"""Open jobs whose series got an instance: superseded at once, not only at the next routing."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, select

from dicom_node.ledger import schema
from dicom_node.ledger.fetches import supersede_fetch
from dicom_node.ledger.transitions import Transitions
from dicom_node.lifecycle import JobEvent, JobState, next_job_state

_MOVES = Transitions[JobState, JobEvent](schema.jobs, "job", next_job_state)
_OPEN = (JobState.QUEUED, JobState.RUNNING)


def supersede_open_jobs(
    connection: Connection, study_instance_uid: str, series_instance_uids: Sequence[str], now: float
) -> None:
    """Supersede what waits or runs on series that have just got an instance.

    Their results would be those of a part of the series. Whoever runs one sees that its state has
    changed; should it not, its attempt can no longer be finished.
    """
    table = schema.jobs
    query = select(table.c.job_id, table.c.state).where(
        table.c.study_instance_uid == study_instance_uid,
        table.c.series_instance_uid.in_(series_instance_uids),
        table.c.state.in_([state.value for state in _OPEN]),
    )
    reason = "its series got another instance; the study's next revision makes a new job"
    for job_id, state in connection.execute(query).all():
        _MOVES.move(connection, job_id, JobState(state), JobEvent.SUPERSEDED, reason, now)
        supersede_fetch(connection, job_id, reason, now)
