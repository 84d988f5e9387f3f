"""Which studies are whole, given the evidence and `now`: a pure decision, with its reason."""

from __future__ import annotations

from dataclasses import dataclass

from dicom_node.config.settings import AssembleSettings
from dicom_node.ledger.associations import AssociationEnd
from dicom_node.ledger.studies import StudyEvidence


@dataclass(frozen=True)
class Verdict:
    """Whether a study is complete, why, and when to ask again."""

    complete: bool
    reason: str
    ask_again_at: float
    """Seconds since the epoch; of no meaning once it is complete."""


def judge(evidence: StudyEvidence, policy: AssembleSettings, now: float) -> Verdict:
    """Return whether a study can be taken as complete.

    The association that carried its instances and closed last decides how long silence must last:
    short after a release, long after an abort or a lost connection, and long while one is still
    open (it may carry other studies, or be kept open for ever).
    """
    if evidence.open_associations:
        quiet_s, since = policy.quiet_otherwise_s, evidence.last_instance_at
        why = f"{evidence.open_associations} association(s) still open"
    elif evidence.last_end is AssociationEnd.RELEASED:
        quiet_s = policy.quiet_after_release_s
        since = max(evidence.last_instance_at, evidence.last_closed_at)
        why = "the last association was released"
    else:
        quiet_s = policy.quiet_otherwise_s
        since = max(evidence.last_instance_at, evidence.last_closed_at)
        why = f"the last association was {evidence.last_end or 'never closed'}"
    quiet_for_s = now - since
    if -quiet_for_s > quiet_s:
        reason = f"{evidence.instance_count} instances; {why}, and the clock was set back since"
        return Verdict(True, reason, now)
    if quiet_for_s >= quiet_s:
        reason = (
            f"{evidence.instance_count} instances; {why}, and nothing came for {quiet_for_s:.0f} s"
        )
        return Verdict(True, reason, now)
    return Verdict(
        False,
        f"{evidence.instance_count} instances; {why}; waiting for {quiet_s:g} s of silence",
        since + quiet_s,
    )
