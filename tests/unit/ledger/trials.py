"""A study that is routed with a trial."""

from __future__ import annotations

from dicom_node.ledger.ledger import Ledger
from dicom_node.ledger.routing import Plan
from dicom_node.ledger.trials import PlannedComparison
from dicom_node.model import Job, Study
from dicom_node.trials import TrialWanted


def route_trial(
    ledger: Ledger,
    study: Study,
    wanted: TrialWanted,
    current: Job,
    candidate: Job,
    now: float = 300.0,
) -> None:
    """Route a complete study to two jobs that are to be compared."""
    planned = PlannedComparison(wanted, current, candidate)
    rules = ledger.routing.keep_rule_set("rules of a test", now)
    plan = Plan("rules", rules, "", {}, (current, candidate), comparisons=(planned,))
    assert ledger.routing.record(study, plan, now)
