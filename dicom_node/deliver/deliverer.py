"""The deliver stage: sends what is due to one destination, and notes what it said."""

from __future__ import annotations

import structlog

from dicom_node.clock import Checkpoint, Clock, pass_checkpoint
from dicom_node.config.settings import Config
from dicom_node.deliver.patience import wait_s
from dicom_node.deliver.senders import sender_of
from dicom_node.deliver.store_scu import Item
from dicom_node.errors import DeliveryError, PeerUnreachable
from dicom_node.ledger.deliveries import Parcel
from dicom_node.ledger.ledger import Ledger
from dicom_node.lifecycle import DeliveryState
from dicom_node.store.local import LocalStore

log = structlog.get_logger()

_BATCH = 64


class Deliverer:
    """Moves deliveries from PENDING to SENT, or to DEAD."""

    def __init__(
        self,
        config: Config,
        ledger: Ledger,
        store: LocalStore,
        clock: Clock,
        checkpoint: Checkpoint = pass_checkpoint,
    ) -> None:
        self._ledger = ledger
        self._store = store
        self._settings = config.deliver
        self._clock = clock
        self._checkpoint = checkpoint
        self._senders = {
            name: sender_of(peer, config) for name, peer in config.destinations.items()
        }

    def turn(self, destination: str) -> None:
        """Send everything that is due to `destination`, over as few associations as it takes."""
        while True:
            now = self._clock()
            ready = self._ledger.deliveries.ready(destination, now, _BATCH)
            parcels = self._ledger.deliveries.start(ready, now)
            if not parcels:
                return
            if not self._send(destination, parcels):
                return

    def broke(self, destination: str, error: Exception) -> None:
        """Postpone what was in hand for `destination` when a turn ended by an error of ours."""
        own = PeerUnreachable(f"our own error: {type(error).__name__}", hint="see the node's log")
        sending = self._ledger.deliveries.in_states(DeliveryState.SENDING)
        self._postpone([p for p in sending if p.delivery.destination == destination], own)

    def _send(self, destination: str, parcels: list[Parcel]) -> bool:
        """Send one batch; return whether the destination could be reached to its end."""
        send = self._senders.get(destination)
        if send is None:
            gone = PeerUnreachable(
                f"{destination} is no longer configured",
                hint="add it to `peers:` again, or let the deliveries go dead",
            )
            self._postpone(parcels, gone)
            return False
        items = [
            Item(
                self._store.path(parcel.result.path),
                parcel.result.sop_class_uid,
                parcel.result.transfer_syntax_uid,
            )
            for parcel in parcels
        ]
        answered = 0
        try:
            self._checkpoint("deliver.sending")
            for parcel, outcome in zip(parcels, send(items), strict=True):
                self._checkpoint("deliver.answered")
                self._note(parcel, outcome)
                answered += 1
                self._checkpoint("deliver.noted")
        except PeerUnreachable as error:
            self._postpone(parcels[answered:], error)
            return False
        return True

    def _note(self, parcel: Parcel, outcome: DeliveryError | str) -> None:
        delivery, now = parcel.delivery, self._clock()
        if isinstance(outcome, str):
            self._ledger.deliveries.accepted(delivery, outcome, now)
            log.info(
                "result_sent",
                sop_instance_uid=delivery.sop_instance_uid,
                destination=delivery.destination,
                outcome=outcome,
            )
        elif outcome.retryable:
            self._postpone([parcel], outcome)
        else:
            self._give_up(parcel, outcome)

    def _postpone(self, parcels: list[Parcel], error: DeliveryError) -> None:
        """Try again later; what has been tried for days is given up."""
        for parcel in parcels:
            delivery, now = parcel.delivery, self._clock()
            waiting_s = wait_s(delivery, self._settings, now)
            if waiting_s is None:
                self._give_up(parcel, error)
                continue
            reason = f"{error.in_words}; next attempt after {waiting_s:.0f} s"
            self._ledger.deliveries.postpone(delivery, reason, now + waiting_s, now)
            log.warning(
                "delivery_postponed",
                sop_instance_uid=delivery.sop_instance_uid,
                destination=delivery.destination,
                reason=reason,
            )

    def _give_up(self, parcel: Parcel, error: DeliveryError) -> None:
        delivery = parcel.delivery
        reason = error.in_words
        self._ledger.deliveries.give_up(delivery, reason, self._clock())
        log.error(
            "delivery_dead",
            sop_instance_uid=delivery.sop_instance_uid,
            destination=delivery.destination,
            reason=reason,
        )
