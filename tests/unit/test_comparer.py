"""What comes of two jobs: compared, failed or left out, and a trial that is stopped."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest
from structlog.testing import capture_logs

from dicom_node.comparer import Comparer, summarized
from dicom_node.encode.results import encode
from dicom_node.ledger.ledger import Ledger
from dicom_node.lifecycle import ComparisonState, TrialState
from dicom_node.model import Attributes, Job, JobRole, Result
from dicom_node.store.local import LocalStore
from dicom_node.trials import Comparison, StopRule, Trial, TrialMode, TrialWanted
from tests.factories import make_ct_series
from tests.unit.encode.findings import STAMP, blobs, headers_of, segmentation
from tests.unit.ledger import rows
from tests.unit.ledger.rows import STUDY, HandClock, a_job, a_result, an_instance, started
from tests.unit.ledger.trials import route_trial

SEEN: Attributes = {"probability.pneumonia": ("0.6",), "present": ("pneumonia",)}
UNSEEN: Attributes = {"probability.pneumonia": ("0.4",), "present": ()}


class Site:
    """A ledger, a store and a comparer, with one trial of a study."""

    def __init__(self, folder: Path, stop: StopRule) -> None:
        self.ledger: Ledger = rows.new_ledger(folder)
        self.store = LocalStore(folder / "data")
        self.comparer = Comparer(self.ledger, self.store, HandClock())
        study = rows.complete(self.ledger, an_instance())
        current = a_job("current")
        candidate = a_job("candidate", engine_name="new", role=JobRole.SHADOW, destinations=())
        wanted = TrialWanted("new", TrialMode.SHADOW, stop=stop)
        route_trial(self.ledger, study, wanted, current, candidate)

    @property
    def trial(self) -> Trial:
        [trial] = self.ledger.trials.all()
        return trial

    @property
    def comparison(self) -> Comparison:
        [comparison] = self.ledger.trials.of_study(STUDY)
        return comparison

    def do(self, job_id: str, facts: Attributes, *results: Result, infer_s: float = 1.0) -> None:
        seconds: Mapping[str, float] = {"infer": infer_s}
        running = started(self.ledger, job_id)
        assert self.ledger.jobs.finish(running, results, "", seconds, 400.0, facts)

    def save_seg(self, job_id: str, number: int, shift: int, time: int = 0) -> Result:
        """Lay a SEG of both lungs into the store, moved by so many rows; of one time of several."""
        series = make_ct_series(slices=4)
        for one in series:
            one.SOPInstanceUID = f"{one.SOPInstanceUID}.{time}"
        sources = headers_of(series)
        mask = np.roll(blobs(sources), shift, axis=1)
        encoded = encode(segmentation(sources, mask), sources, STAMP)[0]
        path = f"results/{number}.dcm"
        self.store.save(path, encoded.pieces)
        return a_result(number, job_id=job_id, path=path)


@pytest.fixture(autouse=True)
def no_log() -> Iterator[None]:
    with capture_logs():
        yield


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    site = Site(tmp_path, StopRule(flips_above=0.5, after_studies=1, failures=1))
    yield site
    site.ledger.close()


def test_what_both_have_done_is_left_to_be_compared(site: Site) -> None:
    assert site.comparer.settle() == []
    site.do("current", SEEN)
    assert site.comparer.settle() == []
    site.do("candidate", SEEN, infer_s=2.0)
    assert site.comparer.settle() == [site.comparison.comparison_id]
    site.comparer.compare(site.comparison.comparison_id)
    compared = site.comparison
    assert compared.state is ComparisonState.COMPARED
    assert compared.reason == "pneumonia 0.60 -> 0.60"
    assert (compared.current_s, compared.candidate_s) == (1.0, 2.0)
    assert site.comparer.settle() == []
    assert site.trial.state is TrialState.RUNNING
    assert summarized(site.ledger, site.trial).slower == 2.0


def test_a_trial_that_does_badly_is_stopped(site: Site) -> None:
    site.do("current", SEEN)
    site.do("candidate", UNSEEN)
    site.comparer.compare(site.comparison.comparison_id)
    assert site.trial.state is TrialState.STOPPED
    assert site.trial.reason == "another class on 100.0% of 1 studies (flips_above: 50%)"


def test_masks_are_read_from_both_results(site: Site) -> None:
    site.do("current", {}, site.save_seg("current", 1, shift=0))
    site.do("candidate", {}, site.save_seg("candidate", 2, shift=1))
    site.comparer.compare(site.comparison.comparison_id)
    dice = site.comparison.agreement["dice"]
    assert dice.keys() == {"Right lung", "Left lung"}
    assert all(0.5 < value < 1 for value in dice.values())


def test_without_a_seg_a_version_has_drawn_nothing(site: Site) -> None:
    site.do("current", {}, site.save_seg("current", 1, shift=0))
    site.do("candidate", {})
    site.comparer.compare(site.comparison.comparison_id)
    assert site.comparison.agreement["dice"] == {"Right lung": 0.0, "Left lung": 0.0}


def test_a_result_that_cannot_be_read_is_left_out(site: Site) -> None:
    site.do("current", {}, a_result(1, job_id="current", path="results/gone.dcm"))
    site.do("candidate", {})
    site.comparer.compare(site.comparison.comparison_id)
    assert site.comparison.state is ComparisonState.UNCOMPARED
    assert site.comparison.reason.startswith("the results cannot be read: ")
    assert site.trial.state is TrialState.RUNNING


def refuse(site: Site, job_id: str) -> Job:
    job = started(site.ledger, job_id)
    site.ledger.jobs.refuse(job, "no chest", 400.0)
    return job


def test_what_the_candidate_alone_does_not_do_is_a_failure(site: Site) -> None:
    site.do("current", SEEN)
    refuse(site, "candidate")
    assert site.comparer.settle() == []
    assert site.comparison.state is ComparisonState.FAILED
    assert site.comparison.reason == "REFUSED: no chest"
    assert site.trial.state is TrialState.STOPPED
    assert site.trial.reason == "failed on 1 studies (failures: 1)"


def test_what_neither_does_is_no_failure(site: Site) -> None:
    refuse(site, "current")
    refuse(site, "candidate")
    site.comparer.settle()
    assert site.comparison.state is ComparisonState.UNCOMPARED
    assert site.comparison.reason == "the version in use has it REFUSED too"
    assert site.trial.state is TrialState.RUNNING


def test_what_only_the_candidate_does_is_left_out(site: Site) -> None:
    refuse(site, "current")
    site.do("candidate", SEEN)
    site.comparer.settle()
    assert site.comparison.state is ComparisonState.UNCOMPARED


def test_a_comparison_over_which_its_process_died_is_left_out(site: Site) -> None:
    site.comparer.crashed(site.comparison.comparison_id, "killed by SIGKILL")
    assert site.comparison.reason == "not compared: killed by SIGKILL"
    site.comparer.compare(site.comparison.comparison_id)  # it is over
    site.comparer.compare(99)
    assert site.comparison.state is ComparisonState.UNCOMPARED


def test_after_a_new_start_only_what_came_since_counts(site: Site) -> None:
    site.do("current", SEEN)
    refuse(site, "candidate")
    site.comparer.settle()
    assert summarized(site.ledger, site.trial).failures == 1
    site.ledger.trials.start_again(site.trial.trial_id, 5000.0)
    assert summarized(site.ledger, site.trial).failures == 0


def test_the_masks_of_all_time_points_are_compared(site: Site) -> None:
    """One of three time points differs: Dice is lower than 1, and higher than of that one alone."""
    mine = [site.save_seg("current", 1 + time, 0, time) for time in range(3)]
    theirs = [
        site.save_seg("candidate", 4 + time, shift=2 * (time == 1), time=time) for time in range(3)
    ]
    site.do("current", {}, *mine)
    site.do("candidate", {}, *theirs)
    site.comparer.compare(site.comparison.comparison_id)
    of_all = site.comparison.agreement["dice"]["Right lung"]
    sources = headers_of(make_ct_series(slices=4))
    mask = blobs(sources) == 1
    moved = np.roll(mask, 2, axis=1)
    alone = 2 * np.count_nonzero(mask & moved) / (2 * np.count_nonzero(mask))
    assert of_all == pytest.approx((2 + alone) / 3)
