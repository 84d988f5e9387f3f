"""What the judge makes of more than two hundred transfers, and that it is better than a timer."""

from __future__ import annotations

from functools import cache
from statistics import median

import pytest

from dicom_node.config.settings import AssembleSettings
from dicom_node.verdict import Certainty
from tests.corpus.figures import best_faultless_timer, mistakes, waits
from tests.corpus.language import Transfer
from tests.corpus.player import POLICY, Act, play, play_timer
from tests.corpus.scenarios import (
    FAMILIES,
    beyond,
    clean,
    corpus,
    interleaved,
    late_series,
    split,
    truncated,
)


@cache
def played() -> tuple[tuple[Transfer, list[Act]], ...]:
    return tuple((transfer, play(transfer)) for transfer in corpus())


def test_the_corpus_is_large_and_no_transfer_stands_in_it_twice() -> None:
    assert len(corpus()) >= 200
    assert len({transfer.title for transfer in corpus()}) == len(corpus())
    assert len({transfer.script for transfer in corpus()}) == len(corpus())
    assert {family.__doc__ for family in FAMILIES}.isdisjoint({None, ""})


def test_no_complete_verdict_is_acted_upon_while_a_part_of_the_set_has_not_come() -> None:
    wrong = [
        transfer.title
        for transfer, acts in played()
        for act in acts
        if act.certainty is Certainty.COMPLETE and not act.was_whole
    ]
    assert wrong == []


def test_no_transfer_waits_for_ever() -> None:
    for transfer, acts in played():
        last_at = max(moment.at for moment in transfer.moments)
        assert acts, transfer.title
        assert acts[-1].at <= last_at + POLICY.longest_wait_s, transfer.title
        if transfer.whole_at is not None:
            assert acts[-1].was_whole, transfer.title


def test_what_never_comes_whole_is_suspect_wherever_anything_shows_it() -> None:
    unnoticed = {"no end, nothing told", "no end, left open"}
    for transfer in truncated():
        [act] = play(transfer)
        wanted = Certainty.PROBABLE if transfer.title in unnoticed else Certainty.SUSPECT
        assert act.certainty is wanted, transfer.title


@pytest.mark.parametrize("evidence", ["MPPS before", "MPPS after", "C-FIND,", "IAN after"])
def test_a_clean_association_that_is_proven_is_acted_upon_at_once(evidence: str) -> None:
    proven = [transfer for transfer in clean() if f", {evidence}" in transfer.title]
    assert proven
    for transfer in proven:
        [act] = play(transfer)
        assert act.certainty is Certainty.COMPLETE
        assert act.at == max(moment.at for moment in transfer.moments)  # the proof, or the release
        assert transfer.whole_at is not None
        assert act.at - transfer.whole_at < 1.0


def test_the_median_wait_is_below_that_of_the_best_timer_that_makes_no_mistake() -> None:
    transfers = corpus()
    quiet_s = best_faultless_timer(transfers)
    timed = [(transfer, play_timer(transfer, quiet_s)) for transfer in transfers]
    assert mistakes(timed) == 0
    assert mistakes([(t, play_timer(t, quiet_s - 0.01)) for t in transfers]) > 0
    assert median(waits(played())) < median(waits(timed)) / 10


def test_a_patient_policy_makes_no_mistake_on_them_at_all() -> None:
    """Whoever waits as long as a timer is not more often wrong than it."""
    patient = AssembleSettings(
        quiet_after_release_s=500, quiet_otherwise_s=500, longest_wait_s=500, learn_pace=False
    )
    silent = [transfer for family in (split, interleaved, late_series) for transfer in family()]
    assert mistakes([(transfer, play(transfer)) for transfer in silent]) > 0
    assert mistakes([(transfer, play(transfer, patient)) for transfer in silent]) == 0


def test_what_nobody_could_know_is_made_good_in_a_new_revision() -> None:
    for transfer in beyond():
        acts = play(transfer)
        assert [act.was_whole for act in acts] == [False, True], transfer.title
