"""Reports of storage commitment to those who asked, on associations of ours (PS3.4 J.3.3)."""

from __future__ import annotations

from collections.abc import Callable

import structlog

from dicom_node.clock import Checkpoint, Clock, pass_checkpoint
from dicom_node.config.settings import Config
from dicom_node.deliver.patience import wait_s
from dicom_node.errors import DeliveryError, PeerRefused, PeerUnreachable
from dicom_node.ledger.ledger import Ledger
from dicom_node.lifecycle import CommitmentState
from dicom_node.model import Commitment, CommitmentOutcome, Instance
from dicom_node.scu.address import SOP_CLASS_NOT_SUPPORTED, Address
from dicom_node.scu.commitment import (
    STORAGE_COMMITMENT_INSTANCE,
    STORAGE_COMMITMENT_PUSH_MODEL,
    event_type_id,
    is_acknowledged,
    report_of,
)
from dicom_node.scu.peers import address_of
from dicom_node.scu.requestor import Requestor

log = structlog.get_logger()

IMPLICIT_VR_LITTLE_ENDIAN = "1.2.840.10008.1.2"
"""What every peer must understand (PS3.5 10.1)."""

_CONTEXT = (STORAGE_COMMITMENT_PUSH_MODEL, IMPLICIT_VR_LITTLE_ENDIAN)
_TRANSIENT = frozenset({0x0110, 0x0213})  # processing failure, resource limitation (PS3.7 C.5)
_BATCH = 64


class CommitmentReporter:
    """Moves commitments from PENDING to REPORTED, or to DEAD.

    Parameters
    ----------
    is_held : callable
        Whether the bytes of an instance can be found.
    caught_up : callable
        Whether all that was acknowledged until now is in the ledger.
    """

    def __init__(
        self,
        config: Config,
        ledger: Ledger,
        is_held: Callable[[Instance], bool],
        caught_up: Callable[[], bool],
        clock: Clock,
        checkpoint: Checkpoint = pass_checkpoint,
    ) -> None:
        self._ledger = ledger
        self._is_held = is_held
        self._caught_up = caught_up
        self._settings = config.deliver
        self._clock = clock
        self._checkpoint = checkpoint
        self._addresses: dict[str, Address] = {}
        for peer in config.called.values():
            self._addresses.setdefault(peer.ae_title, address_of(peer, config))

    def turn(self, calling_ae_title: str) -> None:
        """Report everything that is due to one requestor."""
        while True:
            if not self._caught_up():
                return  # it would be a lie to say that something is not here
            now = self._clock()
            ready = self._ledger.commitments.ready(calling_ae_title, now, _BATCH)
            commitments = self._ledger.commitments.start(ready, now)
            if not commitments or not self._report(calling_ae_title, commitments):
                return

    def broke(self, calling_ae_title: str, error: Exception) -> None:
        """Postpone what was in hand for a requestor when a turn ended by an error of ours."""
        own = PeerUnreachable(f"our own error: {type(error).__name__}", hint="see the node's log")
        reporting = self._ledger.commitments.in_states(CommitmentState.REPORTING)
        self._postpone([c for c in reporting if c.calling_ae_title == calling_ae_title], own)

    def _report(self, calling_ae_title: str, commitments: list[Commitment]) -> bool:
        """Send one batch of reports; return whether the requestor could be reached to its end."""
        reported = 0
        try:
            address = self._address(calling_ae_title)
            self._checkpoint("commitment.reporting")
            with _associate(address) as requestor:
                for commitment in commitments:
                    outcome = self._ledger.commitments.outcome(commitment, self._is_held)
                    refusal = _send(requestor, commitment, outcome, address)
                    self._checkpoint("commitment.answered")
                    self._note(commitment, outcome, refusal)
                    reported += 1
                    self._checkpoint("commitment.noted")
        except PeerUnreachable as error:
            self._postpone(commitments[reported:], error)
            return False
        return True

    def _address(self, calling_ae_title: str) -> Address:
        address = self._addresses.get(calling_ae_title)
        if address is None:
            raise PeerUnreachable(
                f"no peer with ae_title {calling_ae_title} has an address",
                hint="add host and port to its entry in `peers:`",
            )
        return address

    def _note(
        self, commitment: Commitment, outcome: CommitmentOutcome, refusal: PeerRefused | None
    ) -> None:
        if refusal is None:
            self._ledger.commitments.acknowledged(commitment, outcome.in_words, self._clock())
            log.info(
                "commitment_reported",
                transaction_uid=commitment.transaction_uid,
                calling_ae_title=commitment.calling_ae_title,
                outcome=outcome.in_words,
            )
        elif refusal.retryable:
            self._postpone([commitment], refusal)
        else:
            self._give_up(commitment, refusal)

    def _postpone(self, commitments: list[Commitment], error: DeliveryError) -> None:
        """Try again later; what has been tried for days is given up."""
        for commitment in commitments:
            now = self._clock()
            waiting_s = wait_s(commitment, self._settings, now)
            if waiting_s is None:
                self._give_up(commitment, error)
                continue
            reason = f"{error.in_words}; next attempt after {waiting_s:.0f} s"
            self._ledger.commitments.postpone(commitment, reason, now + waiting_s, now)
            log.warning(
                "commitment_postponed",
                transaction_uid=commitment.transaction_uid,
                calling_ae_title=commitment.calling_ae_title,
                reason=reason,
            )

    def _give_up(self, commitment: Commitment, error: DeliveryError) -> None:
        reason = error.in_words
        self._ledger.commitments.give_up(commitment, reason, self._clock())
        log.error(
            "commitment_dead",
            transaction_uid=commitment.transaction_uid,
            calling_ae_title=commitment.calling_ae_title,
            reason=reason,
        )


def _associate(address: Address) -> Requestor:
    """Propose ourselves as the SCP: the peer stays the SCU that it was when it asked."""
    return address.associate([_CONTEXT], scp_of=[STORAGE_COMMITMENT_PUSH_MODEL])


def _send(
    requestor: Requestor, commitment: Commitment, outcome: CommitmentOutcome, address: Address
) -> PeerRefused | None:
    """Send one report; return why the requestor did not take it, None if it did.

    Raises
    ------
    PeerUnreachable
        If the association broke; the report may or may not have arrived.
    """
    peer = address.called_ae_title
    if not requestor.accepts_context(_CONTEXT) or requestor.refuses_as_scp(_CONTEXT[0]):
        return PeerRefused(
            f"{peer} accepts no report of storage commitment",
            status=SOP_CLASS_NOT_SUPPORTED,
            hint="have it accept Storage Commitment Push Model with us as the SCP",
        )
    status = requestor.report_event(
        _CONTEXT,
        STORAGE_COMMITMENT_INSTANCE,
        event_type_id(outcome),
        report_of(commitment.transaction_uid, outcome, IMPLICIT_VR_LITTLE_ENDIAN),
    )
    if status is None:
        raise PeerUnreachable(
            f"{peer} broke the association, or gave no answer within {address.timeout_s:g} s",
            hint="look into its log",
        )
    if is_acknowledged(status):
        return None
    return PeerRefused(
        f"{peer} answered 0x{status:04X}",
        status=status,
        retryable=status in _TRANSIENT,
        hint="look into its log",
    )
