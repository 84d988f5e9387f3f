"""Proof that a destination has what it answered Success for: asks it, and concludes.

A request for storage commitment is in the ledger before it goes out, under its Transaction UID. So
its result counts whenever and however it comes: on the same association, or hours later to the
receiver, after any number of restarts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import structlog

from dicom_node.claims import Claim, Outcome, Sent
from dicom_node.clock import Checkpoint, Clock, pass_checkpoint
from dicom_node.config.settings import Config, Peer
from dicom_node.deliver.archive import Archive
from dicom_node.deliver.outlets import Outlets
from dicom_node.deliver.patience import next_wait_s
from dicom_node.deliver.proof import (
    Ask,
    Conclude,
    Later,
    Method,
    Step,
    after_look,
    answer_wait_s,
    next_step,
    wants_content,
)
from dicom_node.errors import DeliveryError, PeerRefused, PeerUnreachable, ResultLost
from dicom_node.ledger.ledger import Ledger
from dicom_node.lifecycle import DeliveryEvent
from dicom_node.model import Result
from dicom_node.scu.address import SOP_CLASS_NOT_SUPPORTED
from dicom_node.scu.retrieve import ReceivedInstance

log = structlog.get_logger()

_BATCH = 512
"""So many instances are asked about together, at most."""
_ASK_AGAIN_S = 3600.0
"""So long a destination is believed that it does not offer a service."""
_NOT_OFFERED = frozenset({SOP_CLASS_NOT_SUPPORTED, 0x0124, 0x0211})
"""Also: not authorized, unrecognized operation (PS3.7 C.5)."""
_NOT_COMPARABLE = (
    "it was sent it compressed with a loss and gave it back decoded: nobody can say whether the "
    "pixels are the same; set `read_back: find` for it"
)
_NO_PEER = Peer(ae_title="GONE")

IsSame = Callable[[Sent, ReceivedInstance], bool | None]
"""Whether what came back is what was sent; None where nobody can say. ResultLost if ours cannot be
read."""


class Prover:
    """Moves what was sent, results and originals, from SENT to PROVEN, UNPROVEN, back to PENDING,
    or to DEAD.

    Parameters
    ----------
    archives : mapping of str to Archive
        The destinations by name.
    is_same : callable
        Compares what comes back with what was sent.
    new_uid : callable
        Makes a Transaction UID that nobody can guess: who knows it can say that it is kept.
    """

    def __init__(
        self,
        config: Config,
        ledger: Ledger,
        archives: Mapping[str, Archive],
        outlets: Outlets,
        is_same: IsSame,
        clock: Clock,
        new_uid: Callable[[], str],
        checkpoint: Checkpoint = pass_checkpoint,
    ) -> None:
        self._ledger = ledger
        self._archives = archives
        self._outlets = outlets
        self._is_same = is_same
        self._settings = config.deliver
        self._peers = config.destinations
        self._clock = clock
        self._new_uid = new_uid
        self._checkpoint = checkpoint
        self._refused: dict[str, dict[Method, float]] = {}

    def turn(self, destination: str) -> None:
        """Ask for and conclude everything that is due at `destination`."""
        while True:
            due = self._ledger.proofs.due(destination, self._clock(), _BATCH)
            if not due or not self._prove(destination, due):
                return

    def broke(self, destination: str, error: Exception) -> None:
        """Postpone what was due at `destination` when a turn ended by an error of ours."""
        own = PeerUnreachable(f"our own error: {type(error).__name__}", hint="see the node's log")
        due = self._ledger.proofs.due(destination, self._clock(), _BATCH)
        self._postpone(due, own.in_words)

    def _prove(self, destination: str, due: list[Claim]) -> bool:
        """Take the next step for each; return whether there may be more to do at once."""
        peer = self._peers.get(destination, _NO_PEER)
        refused, now = self._refused_by(destination), self._clock()
        to_ask: dict[Method, list[Claim]] = {method: [] for method in Method}
        steps = [(claim, next_step(claim, peer, refused, self._settings, now)) for claim in due]
        for claim, step in steps:
            if isinstance(step, Ask):
                to_ask[step.method].append(claim)
        self._take(steps)
        if not any(to_ask.values()):
            return True
        archive = self._archives.get(destination)
        if archive is None:
            asked = [claim for claims in to_ask.values() for claim in claims]
            self._postpone(asked, f"{destination} is no longer configured")
            return True
        if self._outlets.is_closed(destination):
            return False
        reached = True
        for method, ask in ((Method.COMMITMENT, self._commit), (Method.READ_BACK, self._look)):
            if reached and to_ask[method]:
                reached = self._asked(destination, method, to_ask[method], ask)
        return reached

    def _asked(
        self,
        destination: str,
        method: Method,
        claims: list[Claim],
        ask: Callable[[str, list[Claim]], None],
    ) -> bool:
        """Ask by one method; return whether the destination could be reached."""
        try:
            ask(destination, claims)
        except PeerUnreachable as error:
            # No failure for the breaker: some peers break an association that proposes what they do
            # not know, and take what is sent to them all the same.
            self._postpone(claims, error.in_words, forget=True)
            return False
        except PeerRefused as error:
            if _offers_not(method, error):
                self._refused[destination][method] = self._clock() + _ASK_AGAIN_S
                self._postpone(claims, error.in_words, forget=True, wait_s=0.0)  # or otherwise
            else:
                self._postpone(claims, error.in_words, forget=True)
        except DeliveryError as error:
            self._postpone(claims, error.in_words)
        return True

    def _commit(self, destination: str, claims: list[Claim]) -> None:
        """Ask for storage commitment; what comes at once is in the ledger when this returns."""
        transaction_uid, now = self._new_uid(), self._clock()
        wait_s = min(answer_wait_s(claim, self._settings, now) for claim in claims)
        reason = f"asked to commit to it as {transaction_uid}"
        asked = self._ledger.proofs.asked(claims, transaction_uid, reason, now + wait_s, now)
        if not asked:
            return

        def take(answers: Mapping[str, int]) -> None:
            self._ledger.proofs.answered(transaction_uid, [destination], answers, self._clock())
            self._checkpoint("prove.answered")

        self._checkpoint("prove.asking")
        archive = self._archives[destination]
        archive.commit(transaction_uid, [claim.sent for claim in asked], take)
        self._checkpoint("prove.asked")
        log.info("commitment_asked", destination=destination, instances=len(asked))

    def _look(self, destination: str, claims: list[Claim]) -> None:
        """Ask what it has, and fetch the share of it that is to be compared."""
        archive, peer = self._archives[destination], self._peers[destination]
        self._checkpoint("prove.asking")
        found = archive.find([claim.sent for claim in claims])
        self._checkpoint("prove.answered")
        steps: list[tuple[Claim, Step]] = []
        try:
            for claim in claims:
                is_there = claim.sop_instance_uid in found
                steps.append((claim, self._seen(archive, peer, claim, is_there)))
        finally:
            self._take(steps)

    def _seen(self, archive: Archive, peer: Peer, claim: Claim, is_there: bool) -> Step:
        """Return what follows for one, after it was fetched if it is among those to compare."""
        is_same = None
        try:
            if is_there and wants_content(claim, peer):
                returned = archive.fetch(claim.sent)
                if returned is None:
                    return Later("it answers a C-FIND with it, and does not give it back by C-GET")
                is_same = self._is_same(claim.sent, returned)
                if is_same is None:
                    return Conclude(DeliveryEvent.UNPROVEN, _NOT_COMPARABLE)
        except ResultLost as lost:
            return Conclude(DeliveryEvent.UNPROVEN, lost.in_words)
        except PeerRefused as error:
            if _offers_not(Method.READ_BACK, error):
                raise
            return Later(error.in_words)
        return after_look(claim, is_there, is_same, self._settings, self._clock())

    def _take(self, steps: Sequence[tuple[Claim, Step]]) -> None:
        """Write down what follows for each."""
        now = self._clock()
        outcomes = [
            (claim, self._outcome(claim, step, now))
            for claim, step in steps
            if not isinstance(step, Ask)
        ]
        if outcomes:
            self._ledger.proofs.follow(outcomes, now)
            self._checkpoint("prove.noted")
            _tell(outcomes)

    def _outcome(self, claim: Claim, step: Conclude | Later, now: float) -> Outcome:
        if isinstance(step, Later):
            wait_s = (
                self._wait_s(claim, claim.failures, now) if step.wait_s is None else step.wait_s
            )
            return Outcome(DeliveryEvent.POSTPONED, step.reason, now + wait_s)
        if step.event is DeliveryEvent.MISSED:
            wait_s = self._wait_s(claim, claim.resends, now)
            return Outcome(step.event, step.reason, now + wait_s)
        return Outcome(step.event, step.reason)

    def _postpone(
        self,
        claims: Sequence[Claim],
        reason: str,
        *,
        forget: bool = False,
        wait_s: float | None = None,
    ) -> None:
        """Ask again after so long, or after a while that grows."""
        now, event = self._clock(), DeliveryEvent.POSTPONED
        outcomes = []
        for claim in claims:
            not_before = now + (
                self._wait_s(claim, claim.failures, now) if wait_s is None else wait_s
            )
            outcomes.append((claim, Outcome(event, reason, not_before, forget)))
        self._ledger.proofs.follow(outcomes, now)

    def _wait_s(self, claim: Claim, failures: int, now: float) -> float:
        return next_wait_s(failures, self._settings, f"{claim.destination} {now}")

    def _refused_by(self, destination: str) -> frozenset[Method]:
        """Return what a destination does not offer, as far as it said so lately."""
        refused, now = self._refused.setdefault(destination, {}), self._clock()
        for method in [method for method, until in refused.items() if now > until]:
            del refused[method]
        return frozenset(refused)


def _tell(outcomes: Sequence[tuple[Claim, Outcome]]) -> None:
    """Log what became of what; originals that are proven by their number, since they are many."""
    proven: Counter[str] = Counter()
    for claim, outcome in outcomes:
        if outcome.event is DeliveryEvent.POSTPONED:
            continue
        is_proven = outcome.event is DeliveryEvent.PROVEN
        if is_proven and not isinstance(claim.sent, Result):
            proven[claim.destination] += 1
            continue
        what = "result" if isinstance(claim.sent, Result) else "original"
        (log.info if is_proven else log.warning)(
            f"{what}_{outcome.event.lower()}",
            sop_instance_uid=claim.sop_instance_uid,
            destination=claim.destination,
            reason=outcome.reason,
        )
    for destination, count in proven.items():
        log.info("originals_proven", destination=destination, instances=count)


def _offers_not(method: Method, error: PeerRefused) -> bool:
    """Return whether a peer does not offer a service; else it only fails at this request."""
    if method is Method.COMMITMENT:
        return not error.retryable
    return error.status in _NOT_OFFERED
