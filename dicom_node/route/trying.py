"""Which jobs candidates get beside those of the versions in use, and where results then go."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from dicom_node.ledger.trials import PlannedComparison
from dicom_node.model import Job, JobRole, Priority
from dicom_node.route.decision import Order
from dicom_node.trials import TrialMode

Planned = tuple[Order, Job]


def with_candidates(
    planned: Sequence[Planned],
    candidate_of: Callable[[Order], Job],
    takes: Callable[[Job, Job], bool],
) -> tuple[list[Planned], list[PlannedComparison]]:
    """Return the jobs of a study with those of its candidates, and what is compared.

    A shadow is sent nowhere and comes after all else. A canary takes the destinations and the
    priority; the version in use runs all the same, for the comparison, for rules that follow on
    its findings, and to be sent should the canary fail. What a rule runs by itself is nobody's
    candidate: it is compared and otherwise left as it is.

    Parameters
    ----------
    planned : sequence of (Order, Job)
        What the rules run.
    candidate_of : callable
        Makes the job of an order's candidate, as if a rule ran it.
    takes : callable
        Whether the ledger lets the second job be tried beside the first.
    """
    own = {job.job_id for _, job in planned}
    jobs: list[Planned] = []
    comparisons = []
    for order, job in planned:
        current, candidate = job, None
        if order.trial is not None and order.is_tried:
            candidate = candidate_of(order)
        if order.trial is None or candidate is None or not takes(job, candidate):
            jobs.append((order, job))
            continue
        if candidate.job_id in own:
            candidate = next(one for _, one in planned if one.job_id == candidate.job_id)
        elif order.trial.mode is TrialMode.CANARY:
            current = replace(job, destinations=())
            candidate = replace(candidate, role=JobRole.CANARY)
        else:
            candidate = replace(
                candidate, role=JobRole.SHADOW, destinations=(), priority=Priority.LOW
            )
        jobs.append((order, current))
        if candidate.job_id not in own:
            jobs.append((order, candidate))
        comparisons.append(PlannedComparison(order.trial, current, candidate))
    return jobs, comparisons
