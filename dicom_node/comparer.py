"""Compares what two versions of an engine made of a study, and stops a trial that does badly."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import structlog
from numpy.typing import NDArray

from dicom_node.clock import Clock
from dicom_node.encode.masks import read_masks
from dicom_node.errors import StudyUnusable
from dicom_node.infer.agreement import (
    Agreement,
    Masks,
    Pair,
    Summary,
    agreement_of,
    summary_of,
    why_to_stop,
)
from dicom_node.ledger.ledger import Ledger
from dicom_node.ledger.trials import Ended
from dicom_node.lifecycle import ComparisonState, JobState
from dicom_node.model import Job, Result
from dicom_node.store.local import LocalStore
from dicom_node.trials import Comparison, Trial

log = structlog.get_logger()


class Comparer:
    """Ends comparisons whose jobs have both come to their end."""

    def __init__(self, ledger: Ledger, store: LocalStore, clock: Clock) -> None:
        self._ledger = ledger
        self._store = store
        self._clock = clock

    def settle(self) -> list[int]:
        """End what one of the versions has not done; return what is left to be compared.

        It only looks at the ledger, so that what a canary owes is sent at once.
        """
        to_compare = []
        for ended in self._ledger.trials.ended():
            if ended.current is ended.candidate is JobState.DONE:
                to_compare.append(ended.comparison_id)
            else:
                self._not_done(ended)
        return to_compare

    def compare(self, comparison_id: int) -> None:
        """Compare the results of two jobs that are done, and judge their trial."""
        trials = self._ledger.trials
        comparison = trials.comparison(comparison_id)
        if comparison is None or comparison.state is not ComparisonState.OPEN:
            return
        current = self._ledger.jobs.get(comparison.current_job_id)
        candidate = self._ledger.jobs.get(comparison.candidate_job_id)
        if current is None or candidate is None:
            return
        try:
            agreement = agreement_of(
                current.facts, candidate.facts, self._both_masks(current, candidate)
            )
        except (StudyUnusable, OSError) as error:
            reason = error.message if isinstance(error, StudyUnusable) else type(error).__name__
            trials.left_out(comparison, f"the results cannot be read: {reason}", self._clock())
            return
        seconds = (current.seconds.get("infer"), candidate.seconds.get("infer"))
        if trials.compared(
            comparison, agreement.as_json(), seconds, agreement.words, self._clock()
        ):
            log.info(
                "compared",
                comparison=comparison_id,
                trial=f"t{comparison.trial_id}",
                agreement=agreement.words,
            )
            self._judge(comparison.trial_id)

    def crashed(self, comparison_id: int, why: str) -> None:
        """Note that the process that compared has died over it."""
        comparison = self._ledger.trials.comparison(comparison_id)
        if comparison is not None:
            self._ledger.trials.left_out(comparison, f"not compared: {why}", self._clock())

    def _not_done(self, ended: Ended) -> None:
        comparison = self._ledger.trials.comparison(ended.comparison_id)
        if comparison is None:
            return
        if ended.current is not JobState.DONE:
            reason = f"the version in use has it {ended.current} too"
            if ended.candidate is JobState.DONE:
                reason = f"the version in use has it {ended.current}"
            self._ledger.trials.left_out(comparison, reason, self._clock())
            return
        reason = f"{ended.candidate}: {ended.candidate_reason}"
        if self._ledger.trials.failed(comparison, reason, self._clock()):
            log.warning("candidate_failed", trial=f"t{comparison.trial_id}", reason=reason)
            self._judge(comparison.trial_id)

    def _judge(self, trial_id: int) -> None:
        """Stop a trial if its rule says so."""
        trial = self._ledger.trials.get(trial_id)
        if trial is None:
            return
        reason = why_to_stop(summarized(self._ledger, trial), trial.stop)
        if reason and self._ledger.trials.stop(trial, reason, self._clock()):
            log.error(
                "trial_stopped", trial=trial.name, candidate=trial.candidate_engine, reason=reason
            )

    def _both_masks(self, current: Job, candidate: Job) -> tuple[Masks, Masks] | None:
        """Return what the SEG of both hold; None if neither has one."""
        results = [
            [result for result in self._ledger.results.of_job(job.job_id) if result.kind == "SEG"]
            for job in (current, candidate)
        ]
        if not any(results):
            return None
        mine, theirs = map(self._masks, results)
        return mine, theirs

    def _masks(self, segs: Sequence[Result]) -> Masks:
        """Return what the SEG of one job hold, those of several time points together."""
        masks: dict[str, dict[str, NDArray[np.uint8]]] = {}
        for seg in segs:
            for label, slices in read_masks(self._store.file(seg.path)).items():
                masks.setdefault(label, {}).update(slices)
        return masks


def summarized(ledger: Ledger, trial: Trial) -> Summary:
    """Return how a trial does, since its stop rules count."""
    states = (ComparisonState.COMPARED, ComparisonState.FAILED)
    found = ledger.trials.of_trial(trial.trial_id, *states, since=trial.counts_from)
    compared = [one for one in found if one.state is ComparisonState.COMPARED]
    return summary_of(
        [Agreement.of_json(one.agreement) for one in compared],
        [pair for one in compared if (pair := _seconds(one)) is not None],
        failures=len(found) - len(compared),
    )


def _seconds(comparison: Comparison) -> Pair | None:
    if comparison.current_s is None or comparison.candidate_s is None:
        return None
    return comparison.current_s, comparison.candidate_s
