"""Whether a destination has what it answered Success for: what to do next. Pure.

A Success is a promise that some archives break: they answer it from a queue in memory, and drop
what a later step does not take. Storage commitment is the standard's word for "I have it and keep
it" (PS3.4 Annex J); where it is not offered, the archive is asked what it has.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum

from dicom_node.backoff import chance
from dicom_node.claims import Claim
from dicom_node.config.settings import DeliverSettings, Peer
from dicom_node.lifecycle import DeliveryEvent

COMMITTED = 0
NO_SUCH_INSTANCE = 0x0112
CLASS_INSTANCE_CONFLICT = 0x0119
"""(0008,1197) Failure Reason (PS3.3 C.14.1.1)."""

_WAIT_LONGEST_S = 6 * 3600.0
_FAILURES_OF_A_METHOD = 3
"""After so many failures in a row both methods are tried in turn: one may be what breaks it."""
_NOT_OFFERED_S = 4 * 3600.0
"""Until an archive is asked again for what it does not offer and has to: somebody may have mended
it."""

_SEE_ITS_LOG = "look into its log and its disk"
_HAVE_IT_ANSWER = (
    "have it send its N-EVENT-REPORT to this node, by the AE title and the port that it knows of "
    "it, and set `may_send: true` in its entry of `peers:`"
)


class Method(StrEnum):
    """How a destination can be asked."""

    COMMITMENT = "commitment"
    READ_BACK = "read-back"


@dataclass(frozen=True)
class Ask:
    """Ask by this method now."""

    method: Method


@dataclass(frozen=True)
class Conclude:
    """It is settled: PROVEN, MISSED, UNPROVEN or GIVEN_UP."""

    event: DeliveryEvent
    reason: str


@dataclass(frozen=True)
class Later:
    """Ask again after a while, which grows; or after so long."""

    reason: str
    wait_s: float | None = None


Step = Ask | Conclude | Later


def next_step(
    claim: Claim,
    peer: Peer,
    refused: Collection[Method],
    settings: DeliverSettings,
    now: float,
) -> Step:
    """Return what is to be done about a claim that is open, and is due.

    Parameters
    ----------
    claim : Claim
        SENT; its answer may have come after its time.
    refused : collection of Method
        What the destination does not offer, as far as it has said so.
    """
    if claim.committed is not None:
        return _after_commitment(claim, claim.committed, settings)
    if peer.proof == "status":
        reason = "it answered Success, and `proof: status` asks for no more"
        return Conclude(DeliveryEvent.UNPROVEN, reason)
    if is_late(claim, settings, now):
        return Conclude(DeliveryEvent.UNPROVEN, _why_late(claim, settings))
    if peer.proof != "auto":
        method = Method(peer.proof)
        if method in refused:
            return Later(f"it offers no {method}; its last words: {claim.reason}", _NOT_OFFERED_S)
        return Ask(method)
    fails_again = claim.failures >= _FAILURES_OF_A_METHOD and claim.failures % 2 == 1
    waited_in_vain = bool(claim.transaction_uid) or fails_again
    order = [Method.COMMITMENT, Method.READ_BACK]
    for method in reversed(order) if waited_in_vain else order:
        if method not in refused:
            return Ask(method)
    return Conclude(
        DeliveryEvent.UNPROVEN,
        "it answered Success and offers no proof, neither storage commitment nor what "
        f"`read_back` asks for; its last words: {claim.reason}",
    )


def after_look(
    claim: Claim, found: bool, is_same: bool | None, settings: DeliverSettings, now: float
) -> Conclude | Later:
    """Return what follows from what a destination said that it has.

    Parameters
    ----------
    found : bool
        Whether it says that it has it.
    is_same : bool, optional
        Whether what it gave back is what was sent; None if it was not asked for it.
    """
    if found and is_same is None:
        return Conclude(DeliveryEvent.PROVEN, "it answers a C-FIND with it")
    if found and is_same:
        return Conclude(DeliveryEvent.PROVEN, "it gave it back unchanged")
    if found:
        return _missing(claim, "it gave it back changed", settings)
    if now - claim.sent_at < settings.proof_wait_s:
        return Later("it does not answer a C-FIND with it yet")
    return _missing(claim, "it does not answer a C-FIND with it", settings)


def wants_content(claim: Claim, peer: Peer) -> bool:
    """Return whether this one is to be fetched and compared: a share of all, by its UID."""
    drawn = chance(claim.sop_instance_uid) < peer.read_back_share
    return peer.read_back == "content" and drawn


def is_late(claim: Claim, settings: DeliverSettings, now: float) -> bool:
    """Return whether the time for its proof is over."""
    return now - claim.sent_at > settings.prove_within_h * 3600


def answer_wait_s(claim: Claim, settings: DeliverSettings, now: float) -> float:
    """Return how long the answer to a request for commitment is waited for.

    As long again as it took until now, so that one who is asked in vain is asked less often, and
    never past the time at which it counts as unproven.
    """
    since_sent_s = now - claim.sent_at
    left_s = settings.prove_within_h * 3600 - since_sent_s + 1.0
    return max(1.0, min(max(settings.proof_wait_s, since_sent_s), _WAIT_LONGEST_S, left_s))


def _after_commitment(claim: Claim, answer: int, settings: DeliverSettings) -> Conclude:
    if answer == COMMITTED:
        return Conclude(DeliveryEvent.PROVEN, "it commits to keep it")
    if answer == CLASS_INSTANCE_CONFLICT:
        return Conclude(
            DeliveryEvent.GIVEN_UP,
            "it does not commit to it (0x0119): it has another SOP Class under this UID; "
            "find out what it has there",
        )
    return _missing(claim, f"it does not commit to it (0x{answer:04X})", settings)


def _missing(claim: Claim, why: str, settings: DeliverSettings) -> Conclude:
    if claim.resends < settings.resends_max:
        return Conclude(DeliveryEvent.MISSED, f"{why}, though it answered Success; sent again")
    times = claim.resends + 1
    return Conclude(
        DeliveryEvent.GIVEN_UP,
        f"{why}, though it answered Success {times} times; {_SEE_ITS_LOG}, then retry",
    )


def _why_late(claim: Claim, settings: DeliverSettings) -> str:
    hours = f"it answered Success, and no proof came within {settings.prove_within_h:g} h"
    if claim.transaction_uid:
        return f"{hours}, no result of its storage commitment; {_HAVE_IT_ANSWER}"
    return f"{hours}; {claim.reason}"
