"""When a study is whole: tables of evidence, and both sides of each boundary.

The evidence is written in the language of tests/corpus; the study has forty slices of CT.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from dicom_node.assemble.completeness import judge, policy_of
from dicom_node.config.settings import AssembleSettings
from dicom_node.verdict import Action, Certainty, Verdict
from tests.corpus.language import Transfer
from tests.corpus.player import START, World, series_uid

POLICY = AssembleSettings(quiet_after_release_s=5, quiet_otherwise_s=60, longest_wait_s=600)
RELEASED = "0 CT1 opens x\n0 x carries a every 0.1\n4 x releases\n"
OPEN = "0 CT1 opens x\n0 x carries a every 0.1\n"
ABORTED = "0 CT1 opens x\n0 x carries a every 0.1\n4 x aborts\n"
STEP = "0 MPPS p of CT1 begins\n"
SERIES = series_uid("a")
LAST = 3.9
"""When the last instance comes."""


def world(script: str) -> World:
    made = World(Transfer("a study", f"series a: 40 CT\nseries r: 1 RAW\n{script}"))
    for moment in made.transfer.moments:
        made.take(moment)
    return made


def verdict(script: str, at: float, policy: AssembleSettings = POLICY) -> Verdict:
    return judge(world(script).evidence(), policy, START + at)


@pytest.mark.parametrize(
    ("script", "certainty", "acts_at"),
    [
        # silence alone
        (RELEASED, Certainty.PROBABLE, 9),
        (OPEN, Certainty.PROBABLE, LAST + 60),
        (ABORTED, Certainty.SUSPECT, LAST + 600),
        (OPEN + "4 x is lost", Certainty.SUSPECT, LAST + 600),
        (OPEN + "70 x aborts", Certainty.PROBABLE, 70),  # cut for its silence
        # a proof
        (RELEASED + STEP + "5 MPPS p completes naming a", Certainty.COMPLETE, 5),
        (ABORTED + STEP + "5 MPPS p completes naming a", Certainty.COMPLETE, 5),
        (OPEN + STEP + "5 MPPS p completes naming a", Certainty.COMPLETE, LAST + 5),
        (RELEASED + "4.1 CT1 is asked\n5 CT1 answers a 40", Certainty.COMPLETE, 5),
        (RELEASED + "5 IAN of CT1 names a", Certainty.COMPLETE, 5),
        # no proof: too early, of another part, discontinued, or with no names at all
        (RELEASED + "2 CT1 is asked\n3 CT1 answers a 40", Certainty.PROBABLE, 9),
        (RELEASED + "2 IAN of CT1 names a", Certainty.PROBABLE, 9),
        (RELEASED + "5 IAN of CT1 names a 1-39", Certainty.PROBABLE, 9),
        (RELEASED + STEP + "5 MPPS p completes naming a 1-39", Certainty.PROBABLE, 9),
        (RELEASED + STEP + "5 MPPS p discontinues naming a", Certainty.PROBABLE, 9),
        (RELEASED + STEP + "5 MPPS p completes", Certainty.PROBABLE, 9),
        (RELEASED + "4.1 CT1 is asked\n5 CT1 answers a 39", Certainty.PROBABLE, 9),
        (RELEASED + "4.1 CT1 is asked\n5 CT1 does not answer", Certainty.PROBABLE, 9),
        (RELEASED + "4.1 CT1 is asked", Certainty.PROBABLE, 14.1),
        # what modalities keep to themselves is no contradiction, and no proof
        (RELEASED + STEP + "5 MPPS p completes naming a, r", Certainty.PROBABLE, 9),
        # a contradiction
        (RELEASED + STEP, Certainty.SUSPECT, LAST + 600),
        (
            RELEASED + STEP + "0 MPPS q of CT1 begins\n5 MPPS p completes naming a",
            Certainty.SUSPECT,
            LAST + 600,
        ),
        (RELEASED + "4.1 CT1 is asked\n5 CT1 answers a 41", Certainty.SUSPECT, LAST + 600),
        (RELEASED + "2 CT1 is asked\n3 CT1 answers a 40, r 1", Certainty.SUSPECT, LAST + 600),
        (RELEASED + "headers of a count 41 in series", Certainty.SUSPECT, LAST + 600),
        (RELEASED + "headers of a count 41 in study", Certainty.SUSPECT, LAST + 600),
        (RELEASED + "headers of a count 41 in acquisition", Certainty.SUSPECT, LAST + 600),
        (RELEASED + "3 x refuses r", Certainty.SUSPECT, LAST + 600),
        # counts that agree prove nothing
        (RELEASED + "headers of a count 40 in study", Certainty.PROBABLE, 9),
        (RELEASED + "headers of a count on in study", Certainty.PROBABLE, 9),
        (RELEASED + "headers of a count 40 in acquisition", Certainty.PROBABLE, 9),
        # a proof settles a doubt
        (RELEASED + "3 x refuses r\n4.1 CT1 is asked\n5 CT1 answers a 40", Certainty.COMPLETE, 5),
        # made good, by the same or by another; not by a report alone
        (
            ABORTED + "9 CT1 opens y\n9 y carries a 40 every 1\n10 y releases",
            Certainty.PROBABLE,
            15,
        ),
        (
            ABORTED + "9 PACS opens y\n9 y carries a every 0.1\n13 y releases",
            Certainty.PROBABLE,
            18,
        ),
        (ABORTED + "9 CT1 opens y\n9 y carries r every 1\n10 y releases", Certainty.SUSPECT, 609),
        # another association was broken before this one: nothing took it up again
        (
            "0 CT1 opens y\n1 y carries r every 1\n1.5 y aborts\n" + RELEASED,
            Certainty.SUSPECT,
            LAST + 600,
        ),
    ],
)
def test_it_is_acted_upon_from_that_second_on_and_not_before(
    script: str, certainty: Certainty, acts_at: float
) -> None:
    told_at = max(moment.at for moment in world(script).transfer.moments)
    for at in (told_at, acts_at - 0.001):
        if told_at <= at < acts_at:
            early = verdict(script, at)
            assert (early.certainty, early.action) == (Certainty.SUSPECT, None)
            assert early.ask_again_at == pytest.approx(START + acts_at)
            assert early.against
            assert verdict(script, early.ask_again_at - START).action is Action.ROUTE
    for at in (acts_at + 0.001, acts_at + 86400):
        late = verdict(script, at)
        assert (late.certainty, late.action) == (certainty, Action.ROUTE)


@pytest.mark.parametrize(
    ("past", "acts_at"),
    [
        ("0 " * 9, 9),  # too few to learn from
        ("0 " * 10, 6),
        ("20 " * 10, 4 + 30),
        ("20 " * 39 + "500", 4 + 30),  # an accident
        ("1000 " * 10, LAST + 600),
    ],
)
def test_the_wait_after_a_release_is_what_the_scanner_taught(past: str, acts_at: float) -> None:
    script = f"past of CT1: {past}\n{RELEASED}"
    assert verdict(script, 4).ask_again_at == pytest.approx(START + acts_at)
    unlearned = POLICY.model_copy(update={"learn_pace": False})
    assert verdict(script, 4, unlearned).ask_again_at == pytest.approx(START + 9)


def test_headers_that_all_count_what_is_here_shorten_a_learned_wait() -> None:
    script = f"past of CT1: {'20 ' * 10}\nheaders of a count 40 in study\n{RELEASED}"
    assert verdict(script, 4).ask_again_at == pytest.approx(START + 9)


def test_a_scanner_that_paused_in_this_study_may_pause_again() -> None:
    script = "0 CT1 opens x\n0 x carries a 1-20 every 0.1\n2 x releases\n"
    script += "22 CT1 opens y\n22 y carries a 21-40 every 0.1\n24 y releases"
    assert verdict(script, 24).ask_again_at == pytest.approx(START + 24 + 1.2 * 20)


def test_a_sender_of_selected_series_is_not_asked_for_the_others() -> None:
    script = RELEASED + "2 IAN of CT1 names a, r\n4.1 CT1 is asked\n5 CT1 answers a 40, r 1"
    assert verdict(script, 5).action is None
    selected = POLICY.model_copy(update={"whole_studies": False})
    assert verdict(script, 5, selected).certainty is Certainty.COMPLETE


def test_a_gap_speaks_against_the_series_and_a_whole_stack_for_it() -> None:
    [whole] = verdict(RELEASED, 9).series
    assert whole.certainty is Certainty.PROBABLE
    assert whole.for_ == ("40 instances", "40 slices every 2.50 mm without a gap")
    gap = "0 CT1 opens x\n0 x carries a 1-17, a 21-40 every 0.1\n4 x releases"
    broken = verdict(gap, 700)
    assert broken.certainty is Certainty.SUSPECT
    [series] = broken.series
    assert series.against == ("slices are missing between 42.5 and 52.5 mm",)
    assert broken.against == (f"series {SERIES}: slices are missing between 42.5 and 52.5 mm",)


def test_what_is_missing_in_one_series_does_not_speak_against_another() -> None:
    script = RELEASED + STEP + "0 MPPS q of CT1 begins\n5 MPPS p completes naming a"
    [series] = verdict(script, 5).series
    assert series.certainty is Certainty.COMPLETE


@pytest.mark.parametrize(
    ("script", "at", "reason"),
    [
        (
            RELEASED,
            4,
            "SUSPECT: the last association was released; waiting for 5 s of silence",
        ),
        (
            RELEASED,
            13,
            "PROBABLE: 40 instances in 1 series; the last association was released; "
            "nothing came for 9 s",
        ),
        (
            ABORTED,
            700,
            "SUSPECT: an association of CT1 was aborted",
        ),
        (
            RELEASED + STEP + "5 MPPS p completes naming a",
            5,
            "COMPLETE: 40 instances in 1 series; MPPS of CT1 names all 40 instances, and they are "
            "here; the last association was released; nothing came for 1 s",
        ),
    ],
)
def test_the_verdict_says_why(script: str, at: float, reason: str) -> None:
    assert verdict(script, at).reason == reason


@pytest.mark.parametrize(
    ("script", "at", "action"),
    [
        (RELEASED, 9, Action.HOLD),
        (ABORTED, 700, Action.HOLD),
        (RELEASED + STEP + "5 MPPS p completes naming a", 5, Action.ROUTE),
    ],
)
def test_the_policy_says_what_is_done_with_what_is_not_proven(
    script: str, at: float, action: Action
) -> None:
    holding = POLICY.model_copy(update={"at_probable": "hold", "at_suspect": "hold"})
    assert verdict(script, at + 0.001, holding).action is action


def test_without_a_quiet_time_a_released_study_is_acted_upon_at_once() -> None:
    at_once = AssembleSettings(quiet_after_release_s=0, quiet_otherwise_s=0)
    assert verdict(RELEASED, 4, at_once).certainty is Certainty.PROBABLE


def test_repeats_without_end_do_not_hold_a_study_up_for_ever() -> None:
    seen = world(RELEASED).evidence()
    [carrier] = seen.study.carriers
    repeating = replace(carrier, closed_at=None, end=None, last_at=START + 650)
    study = replace(seen.study, carriers=(carrier, repeating))
    assert judge(replace(seen, study=study), POLICY, START + 660).action is Action.ROUTE


def test_an_instance_that_another_study_of_the_same_step_has_is_not_missing() -> None:
    script = RELEASED + STEP + "5 MPPS p completes naming a, r"
    seen = world(script).evidence()
    [step] = seen.announcements
    [elsewhere] = [i.sop_instance_uid for i in step.instances if i.series_instance_uid != SERIES]
    shared = replace(seen, held_elsewhere=frozenset({elsewhere}))
    assert judge(shared, POLICY, START + 5).certainty is Certainty.COMPLETE


def test_a_clock_that_was_set_back_a_little_makes_us_wait_a_little() -> None:
    assert verdict(RELEASED, 0).ask_again_at == pytest.approx(START + 9)


def test_a_clock_that_was_set_back_far_does_not_make_us_wait_until_it_has_caught_up() -> None:
    assert verdict(RELEASED, -50).action is Action.ROUTE
    assert verdict(ABORTED, -50).action is None
    assert verdict(ABORTED, -3600).action is Action.ROUTE


def test_of_several_senders_the_most_careful_policy_counts() -> None:
    one = AssembleSettings(quiet_after_release_s=20, at_suspect="hold", learn_pace=False)
    other = AssembleSettings(longest_wait_s=900, whole_studies=False)
    assert policy_of([one, other]) == AssembleSettings(
        quiet_after_release_s=20, longest_wait_s=900, at_suspect="hold", learn_pace=False
    )
