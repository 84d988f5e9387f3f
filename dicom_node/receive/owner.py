"""What the parts of an association may ask of it."""

from __future__ import annotations

from typing import Protocol


class Owner(Protocol):
    """The association, to its C-STORE and to its services."""

    @property
    def association_id(self) -> str:
        """For the log and the ledger."""

    @property
    def calling_ae_title(self) -> str:
        """Who sends."""

    @property
    def is_open(self) -> bool:
        """Whether an answer still has somebody to go to."""

    @property
    def is_releasing(self) -> bool:
        """Whether the peer waits for nothing but answers and the release."""

    def answer(self, encoded: bytes, context_id: int) -> None:
        """Send a response without a data set."""

    def send_message(self, context_id: int, encoded: bytes, data_set: bytes) -> None:
        """Send a command set, and a data set if there is one."""

    def hold(self) -> None:
        """Read nothing until `go_on`."""

    def go_on(self) -> None:
        """Read again, if nothing else is to be waited for."""

    def owes_an_answer(self) -> None:
        """Count a request that will be answered later."""

    def has_answered(self) -> None:
        """Count it off; the last one may let the association be released."""

    def record_opening(self) -> None:
        """Say in the log that the association is there, before the first thing that it carries."""
