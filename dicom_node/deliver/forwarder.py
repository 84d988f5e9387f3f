"""Forwarding: sends the originals that rules chose to one destination, batch by batch.

What the destination has taken is marked after each batch; so after a crash at most one batch goes
out twice, and a DICOM archive takes the same instance again.
"""

from __future__ import annotations

from collections.abc import Mapping

import structlog

from dicom_node.clock import Checkpoint, Clock, pass_checkpoint
from dicom_node.config.settings import Config
from dicom_node.deliver.archive import Archive
from dicom_node.deliver.copies import Copies
from dicom_node.deliver.originals import Original
from dicom_node.deliver.outlets import Outlets
from dicom_node.deliver.patience import wait_s
from dicom_node.deliver.refusals import understood
from dicom_node.errors import (
    DeliveryError,
    PeerUnreachable,
    StorageError,
    StudyUnusable,
)
from dicom_node.ledger.consignments import SentAs
from dicom_node.ledger.ledger import Ledger
from dicom_node.lifecycle import DeliveryState
from dicom_node.model import ForwardTask, Instance, InstanceKey

log = structlog.get_logger()

_BATCH = 64


class Forwarder:
    """Moves forwards from PENDING to SENT, or to DEAD; `Prover` takes what was sent from there.

    Parameters
    ----------
    archives : mapping of str to Archive
        The destinations by name.
    copies : Copies
        Makes what goes out.
    outlets : Outlets
        When anything may go out, and how much.
    """

    def __init__(
        self,
        config: Config,
        ledger: Ledger,
        archives: Mapping[str, Archive],
        copies: Copies,
        outlets: Outlets,
        clock: Clock,
        checkpoint: Checkpoint = pass_checkpoint,
    ) -> None:
        self._ledger = ledger
        self._archives = archives
        self._copies = copies
        self._outlets = outlets
        self._settings = config.deliver
        self._clock = clock
        self._checkpoint = checkpoint

    def turn(self, destination: str) -> bool:
        """Send a batch of the most urgent forward to `destination`; return whether more may be due.

        One batch at a time, so that a more urgent result or forward comes next.
        """
        if self._outlets.is_closed(destination) or not self._outlets.has_room(destination):
            return False
        now = self._clock()
        urgency = self._outlets.least_urgent(destination)
        for ready in self._ledger.forwards.ready(destination, now, least_urgent=urgency):
            forward = self._ledger.forwards.start(ready, now)
            if forward is None:
                return True
            try:
                return self._attempt(forward)
            except DeliveryError as error:
                self._postpone(forward, error)
                if not isinstance(error, PeerUnreachable):
                    return True
                self._outlets.failed(destination, error)
        return False

    def broke(self, destination: str, error: Exception) -> None:
        """Postpone what was in hand for `destination` when a turn ended by an error of ours."""
        own = PeerUnreachable(f"our own error: {type(error).__name__}", hint="see the node's log")
        for forward in self._ledger.forwards.in_states(DeliveryState.SENDING):
            if forward.destination == destination:
                self._postpone(forward, own)

    def _attempt(self, forward: ForwardTask) -> bool:
        archive = self._archives.get(forward.destination)
        if archive is None:
            raise PeerUnreachable(
                f"{forward.destination} is no longer configured",
                hint="add it to `peers:` again, or let the forwards go dead",
            )
        batch, refused = self._batch(forward)
        taken: list[InstanceKey] = []
        copies: dict[InstanceKey, SentAs] = {}
        transient: DeliveryError | None = None
        try:
            if batch:
                size_bytes = sum(original.size_bytes for _, original in batch)
                self._outlets.spend(forward.destination, len(batch), size_bytes)
                self._checkpoint("forward.sending")
                outcomes = archive.forward([original for _, original in batch])
                for (key, original), said in zip(batch, outcomes, strict=True):
                    self._outlets.worked(forward.destination)
                    outcome = understood(said)
                    if isinstance(outcome, str):
                        taken.append(key)
                        if original.placed_in is not None:
                            copies[key] = (*original.placed_in, original.sop_instance_uid)
                    elif outcome.retryable:
                        transient = outcome
                    else:
                        refused.append((key, outcome.in_words))
                self._checkpoint("forward.answered")
        finally:
            self._ledger.forwards.sent(forward, taken, refused, self._clock(), copies)
        self._checkpoint("forward.noted")
        if transient is not None:
            raise transient
        self._end(forward)
        return True

    def _end(self, forward: ForwardTask) -> None:
        """End an attempt: everything was sent, or the rest goes with the next one."""
        sent, refused, total = self._ledger.forwards.progress(forward.forward_id)
        now = self._clock()
        reason = f"{sent} of {total} instances sent"
        if not refused and self._ledger.forwards.accepted(forward, reason, now):
            log.info("forwarded", destination=forward.destination, instances=sent)
        elif sent + refused < total or not refused:
            self._ledger.forwards.go_on(forward, f"{reason}, the rest follows", now)
        else:
            why = self._ledger.forwards.why_refused(forward.forward_id)
            reason = f"{reason}, {refused} refused: {why}"
            self._ledger.forwards.give_up(forward, reason, now)
            log.error("forward_dead", destination=forward.destination, reason=reason)

    def _batch(
        self, forward: ForwardTask
    ) -> tuple[list[tuple[InstanceKey, Original]], list[tuple[InstanceKey, str]]]:
        """Return what goes out next, and what must not go out with the reason."""
        batch: list[tuple[InstanceKey, Original]] = []
        refused: list[tuple[InstanceKey, str]] = []
        keys = self._ledger.forwards.unsent(forward.forward_id, _BATCH)
        here = {
            InstanceKey(one.series_instance_uid, one.sop_instance_uid, one.digest): one
            for one in self._ledger.studies.instances(
                forward.study_instance_uid,
                sop_instance_uids=[key.sop_instance_uid for key in keys],
            )
        }
        for key in keys:
            try:
                original = self._original(forward, here.get(key))
            except (StudyUnusable, StorageError) as error:
                refused.append((key, error.in_words))
                continue
            batch.append((key, original))
        return batch, refused

    def _original(self, forward: ForwardTask, instance: Instance | None) -> Original:
        if instance is None:
            raise StudyUnusable("it came again with other bytes since; the rules choose anew")
        return self._copies.copy(instance, forward.profile)

    def _postpone(self, forward: ForwardTask, error: DeliveryError) -> None:
        """Try again later; what has been tried for days is given up."""
        now = self._clock()
        waiting_s = wait_s(forward, self._settings, now)
        if waiting_s is None:
            self._ledger.forwards.give_up(forward, error.in_words, now)
            log.error("forward_dead", destination=forward.destination, reason=error.in_words)
            return
        reason = f"{error.in_words}; next attempt after {waiting_s:.0f} s"
        self._ledger.forwards.postpone(forward, reason, now + waiting_s, now)
        log.warning("forward_postponed", destination=forward.destination, reason=reason)
