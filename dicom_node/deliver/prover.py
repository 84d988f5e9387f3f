"""Proof that a destination has what it answered Success for: asks it, and concludes.

A request for storage commitment is in the ledger before it goes out, under its Transaction UID. So
its result counts whenever and however it comes: on the same association, or hours later to the
receiver, after any number of restarts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import structlog

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
from dicom_node.ledger.deliveries import Parcel
from dicom_node.ledger.ledger import Ledger
from dicom_node.lifecycle import DeliveryEvent
from dicom_node.model import Delivery
from dicom_node.scu.address import SOP_CLASS_NOT_SUPPORTED

log = structlog.get_logger()

_BATCH = 64
_ASK_AGAIN_S = 3600.0
"""So long a destination is believed that it does not offer a service."""
_NOT_OFFERED = frozenset({SOP_CLASS_NOT_SUPPORTED, 0x0124, 0x0211})
"""Also: not authorized, unrecognized operation (PS3.7 C.5)."""
_NO_PEER = Peer(ae_title="GONE")


class Prover:
    """Moves deliveries from SENT to PROVEN, UNPROVEN, back to PENDING, or to DEAD.

    Parameters
    ----------
    archives : mapping of str to Archive
        The destinations by name.
    new_uid : callable
        Makes a Transaction UID that nobody can guess: who knows it can say that it is kept.
    """

    def __init__(
        self,
        config: Config,
        ledger: Ledger,
        archives: Mapping[str, Archive],
        outlets: Outlets,
        clock: Clock,
        new_uid: Callable[[], str],
        checkpoint: Checkpoint = pass_checkpoint,
    ) -> None:
        self._ledger = ledger
        self._archives = archives
        self._outlets = outlets
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
        self._postpone([parcel.delivery for parcel in due], own.in_words)

    def _prove(self, destination: str, due: list[Parcel]) -> bool:
        """Take the next step for each; return whether there may be more to do at once."""
        peer = self._peers.get(destination, _NO_PEER)
        refused, now = self._refused_by(destination), self._clock()
        to_ask: dict[Method, list[Parcel]] = {method: [] for method in Method}
        steps = [
            (parcel, next_step(parcel.delivery, peer, refused, self._settings, now))
            for parcel in due
        ]
        for parcel, step in steps:
            if isinstance(step, Ask):
                to_ask[step.method].append(parcel)
        self._take([(parcel.delivery, step) for parcel, step in steps])
        if not any(to_ask.values()):
            return True
        archive = self._archives.get(destination)
        if archive is None:
            asked = [parcel.delivery for parcels in to_ask.values() for parcel in parcels]
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
        parcels: list[Parcel],
        ask: Callable[[str, list[Parcel]], None],
    ) -> bool:
        """Ask by one method; return whether the destination could be reached."""
        deliveries = [parcel.delivery for parcel in parcels]
        try:
            ask(destination, parcels)
        except PeerUnreachable as error:
            # No failure for the breaker: some peers break an association that proposes what they do
            # not know, and take what is sent to them all the same.
            self._postpone(deliveries, error.in_words, forget=True)
            return False
        except PeerRefused as error:
            if _offers_not(method, error):
                self._refused[destination][method] = self._clock() + _ASK_AGAIN_S
                self._postpone(deliveries, error.in_words, forget=True, wait_s=0.0)  # or otherwise
            else:
                self._postpone(deliveries, error.in_words, forget=True)
        except DeliveryError as error:
            self._postpone(deliveries, error.in_words)
        return True

    def _commit(self, destination: str, parcels: list[Parcel]) -> None:
        """Ask for storage commitment; what comes at once is in the ledger when this returns."""
        transaction_uid, now = self._new_uid(), self._clock()
        wait_s = min(answer_wait_s(parcel.delivery, self._settings, now) for parcel in parcels)
        reason = f"asked to commit to it as {transaction_uid}"
        asked = self._ledger.proofs.asked(parcels, transaction_uid, reason, now + wait_s, now)
        if not asked:
            return
        results = [parcel.result for parcel in asked]

        def take(answers: Mapping[str, int]) -> None:
            self._ledger.proofs.answered(transaction_uid, [destination], answers, self._clock())
            self._checkpoint("prove.answered")

        self._checkpoint("prove.asking")
        self._archives[destination].commit(transaction_uid, results, take)
        self._checkpoint("prove.asked")
        log.info("commitment_asked", destination=destination, instances=len(results))

    def _look(self, destination: str, parcels: list[Parcel]) -> None:
        """Ask what it has, and fetch the share of it that is to be compared."""
        archive, peer = self._archives[destination], self._peers[destination]
        self._checkpoint("prove.asking")
        found = archive.find([parcel.result for parcel in parcels])
        self._checkpoint("prove.answered")
        steps: list[tuple[Delivery, Step]] = []
        try:
            for parcel in parcels:
                is_there = parcel.delivery.sop_instance_uid in found
                steps.append((parcel.delivery, self._seen(archive, peer, parcel, is_there)))
        finally:
            self._take(steps)

    def _seen(self, archive: Archive, peer: Peer, parcel: Parcel, is_there: bool) -> Step:
        """Return what follows for one, after it was fetched if it is among those to compare."""
        delivery, is_same = parcel.delivery, None
        try:
            if is_there and wants_content(delivery, peer):
                own, returned = archive.own_content(parcel.result), archive.content(parcel.result)
                if returned is None:
                    return Later("it answers a C-FIND with it, and does not give it back by C-GET")
                is_same = own == returned
        except ResultLost as lost:
            return Conclude(DeliveryEvent.UNPROVEN, lost.in_words)
        except PeerRefused as error:
            if _offers_not(Method.READ_BACK, error):
                raise
            return Later(error.in_words)
        return after_look(delivery, is_there, is_same, self._settings, self._clock())

    def _take(self, steps: Sequence[tuple[Delivery, Step]]) -> None:
        """Write down what was concluded of each."""
        later: dict[Later, list[Delivery]] = {}
        for delivery, step in steps:
            if isinstance(step, Later):
                later.setdefault(step, []).append(delivery)
            elif isinstance(step, Conclude):
                self._conclude(delivery, step)
        for step, deliveries in later.items():
            self._postpone(deliveries, step.reason, wait_s=step.wait_s)

    def _conclude(self, delivery: Delivery, step: Conclude) -> None:
        proofs, now = self._ledger.proofs, self._clock()
        match step.event:
            case DeliveryEvent.PROVEN:
                proofs.proven(delivery, step.reason, now)
            case DeliveryEvent.MISSED:
                not_before = now + self._wait_s(delivery, delivery.resends, now)
                proofs.missed(delivery, step.reason, not_before, now)
            case DeliveryEvent.UNPROVEN:
                proofs.unproven(delivery, step.reason, now)
            case _:
                proofs.give_up(delivery, step.reason, now)
        self._checkpoint("prove.noted")
        level = log.info if step.event is DeliveryEvent.PROVEN else log.warning
        level(
            f"result_{step.event.lower()}",
            sop_instance_uid=delivery.sop_instance_uid,
            destination=delivery.destination,
            reason=step.reason,
        )

    def _postpone(
        self,
        deliveries: Sequence[Delivery],
        reason: str,
        *,
        forget: bool = False,
        wait_s: float | None = None,
    ) -> None:
        """Ask again after so long, or after a while that grows."""
        now = self._clock()
        waits = [
            (one, now + (self._wait_s(one, one.failures, now) if wait_s is None else wait_s))
            for one in deliveries
        ]
        self._ledger.proofs.postpone(waits, reason, now, forget=forget)

    def _wait_s(self, delivery: Delivery, failures: int, now: float) -> float:
        return next_wait_s(failures, self._settings, f"{delivery.destination} {now}")

    def _refused_by(self, destination: str) -> frozenset[Method]:
        """Return what a destination does not offer, as far as it said so lately."""
        refused, now = self._refused.setdefault(destination, {}), self._clock()
        for method in [method for method, until in refused.items() if now > until]:
            del refused[method]
        return frozenset(refused)


def _offers_not(method: Method, error: PeerRefused) -> bool:
    """Return whether a peer does not offer a service; else it only fails at this request."""
    if method is Method.COMMITMENT:
        return not error.retryable
    return error.status in _NOT_OFFERED
