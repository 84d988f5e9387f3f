"""The port to a destination: all that the deliver stage asks of one, whatever protocol it speaks.

`dicom_archive.py` speaks DIMSE; another protocol is another module beside it, which asks by its own
means what these calls ask. The simulated archives of the tests are such modules, so that what is
tested there is the same queue, the same decisions and the same ledger.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Protocol

from dicom_node.claims import Sent
from dicom_node.deliver.originals import Original
from dicom_node.errors import DeliveryError
from dicom_node.model import Result
from dicom_node.scu.retrieve import ReceivedInstance

TakeAnswers = Callable[[Mapping[str, int]], object]
"""Keeps the result of a request for commitment: 0 or a Failure Reason by SOP Instance UID."""


class Archive(Protocol):
    """A destination. Each call raises PeerUnreachable if it is not there, or is gone before its
    answer; PeerRefused if it answers with a failure, or does not offer what it is asked for."""

    def echo(self) -> None:
        """Have it answer that it is there."""

    def store(self, results: Sequence[Result]) -> Iterator[DeliveryError | str]:
        """Send results; yield each one's outcome as soon as it is known, in words if it took it.

        What was under way when PeerUnreachable is raised may or may not have arrived.
        """

    def forward(self, originals: Sequence[Original]) -> Iterator[DeliveryError | str]:
        """Send originals that are ready; as `store`."""

    def commit(self, transaction_uid: str, sent: Sequence[Sent], take: TakeAnswers) -> None:
        """Ask it to commit to instances.

        Its answer comes to `take` before this returns, or some time later to the receiver.
        """

    def find(self, sent: Sequence[Sent]) -> frozenset[str]:
        """Return the SOP Instance UIDs of those that it says it has, of the right SOP Class."""

    def fetch(self, sent: Sent) -> ReceivedInstance | None:
        """Return what it gives back of an instance; None if it sends nothing."""


def is_among(sent: Sent, classes: Mapping[str, str]) -> bool:
    """Return whether an instance is among what an archive has.

    Parameters
    ----------
    classes : mapping of str to str
        The SOP Class UID by SOP Instance UID; empty where an archive does not tell it, as some.
    """
    return classes.get(sent.sop_instance_uid, "-") in ("", sent.sop_class_uid)
