"""Which studies are whole: evidence in, a verdict with its reasons out. No I/O, no clock.

Theory of operation
-------------------
DICOM has no word for "that was all". So nobody knows when a study is whole; there are those who
announce, those who count, those who contradict, and silence. Each has a voice of its own weight.

**COMPLETE needs a proof**: somebody named or numbered all there is, and all of it is here.

* MPPS: every procedure step of the study has ended, at least one was COMPLETED and named
  instances, all of those are here, and no image is here that they do not name. An ended step is
  final. One in progress says that more is to come, whatever the others say.
* C-FIND at the sender, and Instance Availability: they say what there is *now*, so they count only
  if they were given after our last instance. An older one proves nothing; if it names more than is
  here, it contradicts.
* Counts in headers were written at an unknown time and may have grown since, so they prove
  nothing. If all headers agree on what is here, no learned pace makes us wait for longer than
  `quiet_after_release_s`.
* Whole geometry and Images in Acquisition prove nothing of a study: a truncated end leaves no gap,
  and another acquisition may follow. They can only contradict.

A proof is acted upon at once; if an association is still open, after a short silence: a sender
that announced too few goes on sending.

**SUSPECT**: something is missing by name, by count, or by a gap. Or there is a doubt, which a proof
settles: an association that was aborted or lost and not made good, an instance that was refused, a
step in progress. Such a study waits until `longest_wait_s` after its last instance: the sender may
mend it. A study whose time has not come is SUSPECT too.

**PROBABLE**: nothing contradicts, every association was released, and the silence is longer than
this scanner is ever silent, as learned from its past studies (or than `quiet_after_release_s`
where too few are known), and longer than it was inside of this study. With an association still
open, `quiet_otherwise_s` at least: a broken line looks just like that.

Nothing waits for ever: `longest_wait_s` after the last new instance there is a verdict to act
upon, whatever else goes on. What comes later opens a new revision, which is judged again.

Rules of this module: what is not known speaks neither for nor against; every wait has an end, told
in `ask_again_at`.
"""

from __future__ import annotations

from collections.abc import Collection

from dicom_node.assemble.evidence import Evidence, SeriesEvidence
from dicom_node.assemble.pace import MARGIN, OWN_MARGIN, SHORTEST_S
from dicom_node.assemble.voices import (
    Voice,
    contradictions,
    doubts,
    proof_of_series,
    proof_of_study,
    steady_count,
)
from dicom_node.config.settings import AssembleSettings
from dicom_node.ledger.associations import AssociationEnd
from dicom_node.verdict import Action, Certainty, CountState, SeriesVerdict, Verdict

SENDER_ANSWERS_WITHIN_S = 10.0
"""So long a question to the sender holds up a study that is not proven; it may settle it."""


def judge(evidence: Evidence, policy: AssembleSettings, now: float) -> Verdict:
    """Return how sure we are that a study is whole, and whether to act now.

    Parameters
    ----------
    evidence : Evidence
    policy : AssembleSettings
        That of the study's senders; see `policy_of`.
    now : float
        Seconds since the epoch.
    """
    proof = proof_of_study(evidence, policy)
    against = contradictions(evidence, policy)
    if not proof:
        against += doubts(evidence, policy)
    wait_s, since, why = _wait(evidence, policy, bool(proof), bool(against))
    act_at = min(since + wait_s, evidence.study.last_instance_at + policy.longest_wait_s)
    if not proof and not against:
        act_at = max(act_at, _answer_due(evidence))
    is_time = now >= act_at or since - now > max(wait_s, 1.0)  # or the clock was set back
    waiting = [] if is_time else [Voice(f"{why}; waiting for {wait_s:g} s of silence")]
    if against or not is_time:
        certainty = Certainty.SUSPECT
    else:
        certainty = Certainty.COMPLETE if proof else Certainty.PROBABLE
    for_ = [_what_is_here(evidence), *([proof] if proof else [])]
    if is_time:
        for_ += [why, f"nothing came for {max(0.0, now - since):.0f} s"]
    return Verdict(
        certainty,
        tuple(for_),
        tuple(_in_words(voice) for voice in _of_study(against) + waiting),
        tuple(_series(series, evidence, policy, against, waiting) for series in evidence.series),
        _action(certainty, policy) if is_time else None,
        act_at,
    )


def policy_of(policies: Collection[AssembleSettings]) -> AssembleSettings:
    """Return the most careful of several senders' policies."""
    first, *others = policies
    for other in others:
        first = first.model_copy(
            update={
                "quiet_after_release_s": max(
                    first.quiet_after_release_s, other.quiet_after_release_s
                ),
                "quiet_otherwise_s": max(first.quiet_otherwise_s, other.quiet_otherwise_s),
                "longest_wait_s": max(first.longest_wait_s, other.longest_wait_s),
                "learn_pace": first.learn_pace and other.learn_pace,
                "whole_studies": first.whole_studies or other.whole_studies,
                "at_probable": max(first.at_probable, other.at_probable, key=_care),
                "at_suspect": max(first.at_suspect, other.at_suspect, key=_care),
            }
        )
    return first


def _care(action: str) -> bool:
    return Action(action) is Action.HOLD


def _action(certainty: Certainty, policy: AssembleSettings) -> Action:
    if certainty is Certainty.COMPLETE:
        return Action.ROUTE
    return Action(policy.at_probable if certainty is Certainty.PROBABLE else policy.at_suspect)


# ---------------------------------------------------------------- how long to wait


def _wait(
    evidence: Evidence, policy: AssembleSettings, is_proven: bool, is_contradicted: bool
) -> tuple[float, float, str]:
    """Return how long silence must last, since when it lasts, and why, in words."""
    study = evidence.study
    if is_contradicted:
        return policy.longest_wait_s, study.last_instance_at, "the sender may mend it"
    last = max(study.carriers, key=lambda carrier: carrier.last_at)
    # a release is a word of the sender; a break is noticed at any time
    released = [c.closed_at or 0.0 for c in study.carriers if c.end is AssociationEnd.RELEASED]
    since = max(study.last_instance_at, last.last_at, *released)
    if study.open_associations:
        why = f"{study.open_associations} association(s) still open"
        if is_proven:
            return policy.quiet_after_release_s, since, why
    elif is_proven:
        return 0.0, since, f"the last association was {last.end}"
    elif last.end is AssociationEnd.RELEASED:
        wait_s, why = _quiet_after_release(evidence, policy)
        return min(wait_s, policy.longest_wait_s), since, why
    else:
        why = f"the last association was {last.end} after a silence"
    wait_s = max(policy.quiet_otherwise_s, OWN_MARGIN * evidence.own.open_s)
    if policy.learn_pace and evidence.pace is not None:
        wait_s = max(wait_s, MARGIN * evidence.pace.silences.open_s)
    return min(wait_s, policy.longest_wait_s), since, why


def _quiet_after_release(evidence: Evidence, policy: AssembleSettings) -> tuple[float, str]:
    why = "the last association was released"
    wait_s, pace = policy.quiet_after_release_s, evidence.pace
    if policy.learn_pace and pace is not None:
        paused_s = pace.silences.released_s
        why += f"; its sender paused for {paused_s:.0f} s at most in {pace.studies} studies"
        wait_s = max(MARGIN * paused_s, min(SHORTEST_S, wait_s))
    wait_s = max(wait_s, OWN_MARGIN * evidence.own.released_s)
    counted = steady_count(evidence)
    if counted is not None and wait_s > policy.quiet_after_release_s:
        return policy.quiet_after_release_s, f"{why}; all headers count {counted} instances"
    return wait_s, why


def _answer_due(evidence: Evidence) -> float:
    """Return until when the sender may still answer; 0 if it was not asked, or has answered."""
    count = evidence.sender_count
    if count is None or count.state is not CountState.PENDING:
        return 0.0
    return count.asked_at + SENDER_ANSWERS_WITHIN_S


# ---------------------------------------------------------------- in words


def _what_is_here(evidence: Evidence) -> str:
    return f"{evidence.study.instance_count} instances in {len(evidence.series)} series"


def _of_study(voices: list[Voice]) -> list[Voice]:
    """Return each of them once, as it is said of the study."""
    of_study = {voice.words for voice in voices if not voice.series_instance_uid}
    return [v for v in voices if not v.series_instance_uid or v.words not in of_study]


def _in_words(voice: Voice) -> str:
    of = f"series {voice.series_instance_uid}: " if voice.series_instance_uid else ""
    return of + voice.words


def _series(
    series: SeriesEvidence,
    evidence: Evidence,
    policy: AssembleSettings,
    against: list[Voice],
    waiting: list[Voice],
) -> SeriesVerdict:
    """Return the verdict on one series: what is missing elsewhere does not speak against it."""
    uid = series.series_instance_uid
    proof = proof_of_series(series, evidence, policy)
    spoke_against = [voice.words for voice in against if voice.series_instance_uid == uid]
    is_arriving = any(c.closed_at is None and uid in c.series for c in evidence.study.carriers)
    if not proof:
        spoke_against += [voice.words for voice in waiting]
    for_ = [f"{len(series.held)} instances", *([proof] if proof else [])]
    if series.facts.whole and series.facts.known == len(series.held):
        for_.append(series.facts.whole)
    if spoke_against or (is_arriving and waiting):
        certainty = Certainty.SUSPECT
    else:
        certainty = Certainty.COMPLETE if proof else Certainty.PROBABLE
    return SeriesVerdict(uid, certainty, tuple(for_), tuple(spoke_against))
