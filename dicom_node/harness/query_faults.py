"""Archives that answer C-FIND, C-MOVE or C-GET wrongly, each in one way, as `QueryArchive` does.

Every wait ends with `stop`, so a test that fails leaves no thread behind.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydicom.dataset import Dataset

from dicom_node.harness.archive import Received
from dicom_node.harness.query_archive import Counts, Inquiry, QueryArchive, Send
from dicom_node.harness.query_matching import COUNTS

OUT_OF_RESOURCES = 0xA700

_LOOK_EVERY_S = 0.02


class RefusingQueryArchive(QueryArchive):
    """Answers every C-FIND, C-MOVE and C-GET with `status` and nothing else."""

    def __init__(self, folder: Path, *, status: int = OUT_OF_RESOURCES, **options: Any) -> None:
        super().__init__(folder, **options)
        self._status = status

    def refusal(self, inquiry: Inquiry) -> int | None:
        return self._status


class SlowQueryArchive(QueryArchive):
    """Holds the answer after the first `after`, until `release` or until it is cancelled.

    `asked` is set when the first one waits.
    """

    def __init__(self, folder: Path, *, after: int = 0, **options: Any) -> None:
        super().__init__(folder, **options)
        self.asked = threading.Event()
        self._after = after
        self._released = threading.Event()

    def release(self) -> None:
        """Answer what waits, and everything from now on."""
        self._released.set()

    def before_answer(self, inquiry: Inquiry, answered: int) -> None:
        if answered >= self._after:
            self.asked.set()
            while not self.hears_cancel(inquiry) and not self._released.wait(_LOOK_EVERY_S):
                pass

    def hears_cancel(self, inquiry: Inquiry) -> bool:
        """Return whether nobody waits for the answer any more."""
        return inquiry.is_over

    def stop(self) -> None:
        self._released.set()
        super().stop()


class SilentQueryArchive(SlowQueryArchive):
    """Is silent after the first `after` answers, whatever it is sent, until it is stopped."""

    def release(self) -> None:
        """There is nothing to release."""

    def hears_cancel(self, inquiry: Inquiry) -> bool:
        return False


class AbortingQueryArchive(QueryArchive):
    """Sends A-ABORT after the first `after` answers."""

    def __init__(self, folder: Path, *, after: int = 0, **options: Any) -> None:
        super().__init__(folder, **options)
        self._after = after

    def before_answer(self, inquiry: Inquiry, answered: int) -> None:
        if answered == self._after:
            inquiry.association.abort()


class PartialQueryArchive(QueryArchive):
    """Does not send each `every`-th instance of a C-MOVE or C-GET, and says that it failed."""

    def __init__(self, folder: Path, *, every: int = 2, **options: Any) -> None:
        super().__init__(folder, **options)
        self._every = every

    def sub_operation(self, received: Received, number: int, send: Send) -> int | None:
        return OUT_OF_RESOURCES if number % self._every == 0 else send(received)


class MiscountingQueryArchive(QueryArchive):
    """Counts `more` than there are: at the level STUDY of a C-FIND, and in what it completed."""

    def __init__(self, folder: Path, *, more: int = 1, **options: Any) -> None:
        super().__init__(folder, **options)
        self._more = more

    def matches(self, inquiry: Inquiry) -> Iterator[Dataset]:
        for match in super().matches(inquiry):
            if match.QueryRetrieveLevel == "STUDY":
                for keyword in COUNTS:
                    if match.get(keyword) is not None:
                        setattr(match, keyword, int(match[keyword].value) + self._more)
            yield match

    def told(self, counts: Counts) -> Counts:
        return replace(counts, completed=counts.completed + self._more)


class EndlessQueryArchive(QueryArchive):
    """Answers a C-FIND with its matches again and again, and hears no C-CANCEL, until stopped."""

    def __init__(self, folder: Path, **options: Any) -> None:
        super().__init__(folder, **options)
        self._stopping = threading.Event()

    def matches(self, inquiry: Inquiry) -> Iterator[Dataset]:
        while not self._stopping.is_set() and inquiry.association.dul.is_alive():
            yield from super().matches(inquiry)

    def before_answer(self, inquiry: Inquiry, answered: int) -> None:
        inquiry.association.dimse.cancel_req.clear()
        self._stopping.wait(0.001)  # slower than its messages can be sent

    def stop(self) -> None:
        self._stopping.set()
        super().stop()
