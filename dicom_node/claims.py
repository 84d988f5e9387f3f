"""What destinations say that they have, and what follows from asking them for it.

A Success is a claim: of one result, or of one original. It is open until it is proven, or until
nobody can say; both are asked about in the same way, and by the same policy.
"""

from __future__ import annotations

from dataclasses import dataclass

from dicom_node.lifecycle import DeliveryEvent, DeliveryState
from dicom_node.model import Instance, Result


@dataclass(frozen=True)
class Forwarded:
    """An original as it went to a destination: itself, or the copy that a profile made of it."""

    instance: Instance
    """As it lies in the store now."""
    digest: str
    """Of the bytes that were chosen: it may have come again with others since."""
    profile: str
    """By which it was coerced or de-identified; empty: it went as it came."""
    study_instance_uid: str
    series_instance_uid: str
    sop_instance_uid: str
    """As it went."""

    @property
    def sop_class_uid(self) -> str:
        return self.instance.sop_class_uid

    @property
    def transfer_syntax_uid(self) -> str:
        """Of ours: a destination that does not take it got another one."""
        return self.instance.transfer_syntax_uid


Sent = Result | Forwarded
"""What a destination can be asked about."""


@dataclass(frozen=True)
class Claim:
    """One instance that a destination has answered Success for."""

    number: int
    """Of its delivery, or of the consignment that it went in."""
    attempt: int
    """Of its delivery; what is said of an earlier sending moves nothing any more."""
    destination: str
    sent: Sent
    state: DeliveryState
    failures: int
    """Questions in vain since it was sent."""
    reason: str
    sent_at: float
    """When the destination answered Success last; the time for its proof counts from here."""
    resends: int
    """How often it was sent again since it was made or retried, since it was not there."""
    transaction_uid: str
    """Under which the destination was asked last to commit to it since it was sent; or empty."""
    committed: int | None
    """What it answered: 0 or a (0008,1197) Failure Reason; None if it has not yet."""

    @property
    def sop_instance_uid(self) -> str:
        return self.sent.sop_instance_uid


@dataclass(frozen=True)
class Outcome:
    """What follows for a claim."""

    event: DeliveryEvent
    """PROVEN, UNPROVEN, MISSED, GIVEN_UP or POSTPONED."""
    reason: str
    not_before: float = 0.0
    """When it is sent again, or asked about again."""
    forget: bool = False
    """Whether what was asked for last did not go out, so that it has no result."""


def answer_in_words(answer: int) -> str:
    """Return what a destination said when it was asked to commit to an instance."""
    return f"it answers {f'0x{answer:04X}' if answer else 'that it keeps it'}"
