"""The deliver stage: sends what is due to one destination, and notes what it said."""

from __future__ import annotations

from collections.abc import Mapping

import structlog

from dicom_node.clock import Checkpoint, Clock, pass_checkpoint
from dicom_node.config.settings import Config
from dicom_node.deliver.archive import Archive
from dicom_node.deliver.outlets import Outlets
from dicom_node.deliver.patience import wait_s
from dicom_node.deliver.refusals import named, understood
from dicom_node.errors import DeliveryError, PeerUnreachable
from dicom_node.ledger.deliveries import Parcel
from dicom_node.ledger.ledger import Ledger
from dicom_node.lifecycle import DeliveryState

log = structlog.get_logger()

_BATCH = 64


class Deliverer:
    """Moves deliveries from PENDING to SENT, or to DEAD; `Prover` takes them from there.

    Parameters
    ----------
    archives : mapping of str to Archive
        The destinations by name.
    outlets : Outlets
        When anything may go out to them, and how much.
    """

    def __init__(
        self,
        config: Config,
        ledger: Ledger,
        archives: Mapping[str, Archive],
        outlets: Outlets,
        clock: Clock,
        checkpoint: Checkpoint = pass_checkpoint,
    ) -> None:
        self._ledger = ledger
        self._archives = archives
        self._outlets = outlets
        self._settings = config.deliver
        self._clock = clock
        self._checkpoint = checkpoint

    def turn(self, destination: str) -> None:
        """Send everything that may go to `destination`, over as few associations as it takes."""
        while not self._outlets.is_closed(destination):
            now = self._clock()
            urgency = self._outlets.least_urgent(destination)
            ready = self._ledger.deliveries.ready(destination, now, _BATCH, urgency)
            parcels = self._ledger.deliveries.start(self._with_room(destination, ready), now)
            if not parcels or not self._send(destination, parcels):
                return

    def _with_room(self, destination: str, parcels: list[Parcel]) -> list[Parcel]:
        """Return the first of them, as many as the limits let out now."""
        fitting = []
        for parcel in parcels:
            if not self._outlets.has_room(destination):
                break
            self._outlets.spend(destination, 1, parcel.result.size_bytes)
            fitting.append(parcel)
        return fitting

    def broke(self, destination: str, error: Exception) -> None:
        """Postpone what was in hand for `destination` when a turn ended by an error of ours."""
        own = PeerUnreachable(f"our own error: {type(error).__name__}", hint="see the node's log")
        sending = self._ledger.deliveries.in_states(DeliveryState.SENDING)
        self._postpone([p for p in sending if p.delivery.destination == destination], own)

    def _send(self, destination: str, parcels: list[Parcel]) -> bool:
        """Send one batch; return whether the destination could be reached to its end."""
        archive = self._archives.get(destination)
        if archive is None:
            gone = PeerUnreachable(
                f"{destination} is no longer configured",
                hint="add it to `peers:` again, or let the deliveries go dead",
            )
            self._postpone(parcels, gone)
            return False
        answered = 0
        try:
            self._checkpoint("deliver.sending")
            outcomes = archive.store([parcel.result for parcel in parcels])
            for parcel, outcome in zip(parcels, outcomes, strict=True):
                self._outlets.worked(destination)
                self._checkpoint("deliver.answered")
                self._note(parcel, understood(outcome))
                answered += 1
                self._checkpoint("deliver.noted")
        except PeerUnreachable as error:
            self._postpone(parcels[answered:], error)
            self._outlets.failed(destination, error)
            return False
        return True

    def _note(self, parcel: Parcel, outcome: DeliveryError | str) -> None:
        if isinstance(outcome, str):
            delivery = parcel.delivery
            self._ledger.deliveries.accepted(delivery, outcome, self._clock())
            log.info(
                "result_sent",
                sop_instance_uid=delivery.sop_instance_uid,
                destination=delivery.destination,
                outcome=outcome,
            )
        elif outcome.retryable:
            self._postpone([parcel], outcome)
        else:
            self._give_up(parcel, named(outcome, parcel.delivery.destination, parcel.result))

    def _postpone(self, parcels: list[Parcel], error: DeliveryError) -> None:
        """Try again later; what has been tried for days is given up."""
        now = self._clock()
        for parcel in parcels:
            delivery = parcel.delivery
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
