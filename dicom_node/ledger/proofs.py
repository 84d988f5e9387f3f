"""Proof of what was sent: what is to be asked for, what was asked, and what was answered.

What a destination answers to a request for storage commitment is kept as soon as it comes, on
whatever association; what follows from it is decided at the next turn. Results have a row each,
originals one for what went out together: the parts of this know how to move them.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from itertools import groupby

from dicom_node.claims import Claim, Outcome
from dicom_node.ledger.consignment_proofs import ConsignmentProofs
from dicom_node.ledger.delivery_proofs import DeliveryProofs
from dicom_node.model import Priority, Result


class Proofs:
    """The part of the ledger that the prover works off."""

    def __init__(self, deliveries: DeliveryProofs, consignments: ConsignmentProofs) -> None:
        self._deliveries = deliveries
        self._consignments = consignments

    def due(self, destination: str, now: float, limit: int) -> list[Claim]:
        """Return what a destination can be asked about now, or has answered; the oldest first.

        Results, and as soon as none is due, originals.
        """
        return self._deliveries.due(destination, now, limit) or self._consignments.due(
            destination, now, limit
        )

    def destinations_due(self, now: float) -> list[tuple[str, Priority]]:
        """Return the destinations that can be asked something now, and how urgent it is."""
        urgent: dict[str, Priority] = {}
        due = self._deliveries.destinations_due(now) + self._consignments.destinations_due(now)
        for name, urgency in due:
            urgent[name] = min(urgency, urgent.get(name, urgency))
        return list(urgent.items())

    def asked(
        self,
        claims: Sequence[Claim],
        transaction_uid: str,
        reason: str,
        not_before: float,
        now: float,
    ) -> list[Claim]:
        """Note a request for storage commitment before it goes out; return what it is still for.

        Parameters
        ----------
        not_before : float
            Until then nothing but its answer is waited for.
        """
        asked = []
        for is_of_results, some in groupby(claims, key=_is_of_a_result):
            part = self._part(is_of_results=is_of_results)
            asked += part.asked(list(some), transaction_uid, reason, not_before, now)
        return asked

    def follow(self, outcomes: Sequence[tuple[Claim, Outcome]], now: float) -> None:
        """Do what follows for each claim, unless an answer came since it was looked at."""
        for is_of_results, some in groupby(outcomes, key=lambda one: _is_of_a_result(one[0])):
            self._part(is_of_results=is_of_results).follow(list(some), now)

    def answered(
        self,
        transaction_uid: str,
        destinations: Collection[str],
        answers: Mapping[str, int],
        now: float,
    ) -> int:
        """Keep what came as the result of a request for storage commitment.

        Parameters
        ----------
        destinations : collection of str
            Those that the result may be from: it counts for no other.
        answers : mapping of str to int
            0 or a Failure Reason, by SOP Instance UID.

        Returns
        -------
        int
            For how many claims it counts: for none that was sent again since, asked about under
            another transaction, or answered before.
        """
        given = (transaction_uid, destinations, answers, now)
        return self._deliveries.answered(*given) + self._consignments.answered(*given)

    def _part(self, *, is_of_results: bool) -> DeliveryProofs | ConsignmentProofs:
        return self._deliveries if is_of_results else self._consignments


def _is_of_a_result(claim: Claim) -> bool:
    return isinstance(claim.sent, Result)
