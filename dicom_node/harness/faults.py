"""Archives that misbehave, each in one way, by the interface of `Archive`.

Every wait ends with `stop`, so a test that fails leaves no thread behind.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Collection
from pathlib import Path
from typing import Any, Self
from weakref import WeakKeyDictionary

from pynetdicom import evt
from pynetdicom.association import Association

from dicom_node.harness.archive import SUCCESS, Archive

OUT_OF_RESOURCES = 0xA700


class RejectingArchive(Archive):
    """Rejects every association with the given reason (PS3.8 9.3.4).

    The default is permanent: the calling AE title is not recognized. Result 2, source 3 and
    diagnostic 2 is a transient one: the local limit is exceeded.
    """

    def __init__(
        self, folder: Path, *, result: int = 1, source: int = 1, diagnostic: int = 3, **options: Any
    ) -> None:
        super().__init__(folder, **options)
        self._reason = (result, source, diagnostic)

    def on_association(self, event: evt.Event) -> None:
        event.assoc.acse.send_reject(*self._reason)
        event.assoc.kill()


class FailingArchive(Archive):
    """Answers `status` to every `every`-th instance and does not keep it.

    Parameters
    ----------
    status : int
        What is answered; 0xA700, out of resources, unless given.
    every : int
        1 for each instance, 2 for each second one, and so on, over all associations.
    times : int, optional
        After so many failures it is well again.
    """

    def __init__(
        self,
        folder: Path,
        *,
        status: int = OUT_OF_RESOURCES,
        every: int = 1,
        times: int | None = None,
        **options: Any,
    ) -> None:
        super().__init__(folder, **options)
        self._status = status
        self._every = every
        self._times = times
        self._lock = threading.Lock()
        self._requests = 0
        self._failures = 0

    def on_instance(self, event: evt.Event) -> int:
        with self._lock:
            self._requests += 1
            well = self._times is not None and self._failures >= self._times
            if not well and self._requests % self._every == 0:
                self._failures += 1
                return self._status
        return self.keep(event)


class _BreakingArchive(Archive):
    """Takes `after` instances in each association and breaks it at the next.

    Parameters
    ----------
    after : int
        How many are kept and answered first.
    keeps_last : bool
        Whether the instance at which it breaks is kept: then the sender cannot know, and sends it
        again.
    times : int, optional
        After so many broken associations it is well again.
    """

    def __init__(
        self,
        folder: Path,
        *,
        after: int,
        keeps_last: bool = False,
        times: int | None = None,
        **options: Any,
    ) -> None:
        super().__init__(folder, **options)
        self._after = after
        self._keeps_last = keeps_last
        self._times = times
        self._lock = threading.Lock()
        self._counts: WeakKeyDictionary[Association, int] = WeakKeyDictionary()
        self._broken = 0

    def on_instance(self, event: evt.Event) -> int:
        with self._lock:
            count = self._counts.get(event.assoc, 0) + 1
            self._counts[event.assoc] = count
            well = self._times is not None and self._broken >= self._times
            breaks = not well and count > self._after
            self._broken += breaks
        if not breaks:
            return self.keep(event)
        if self._keeps_last:
            self.keep(event)
        self._break(event.assoc)
        return SUCCESS  # nobody is there to hear it

    def _break(self, association: Association) -> None:
        raise NotImplementedError


class AbortingArchive(_BreakingArchive):
    __doc__ = f"Sends A-ABORT. {_BreakingArchive.__doc__}"

    def _break(self, association: Association) -> None:
        association.abort()


class ClosingArchive(_BreakingArchive):
    __doc__ = f"Closes the socket without a word. {_BreakingArchive.__doc__}"

    def _break(self, association: Association) -> None:
        transport = association.dul.socket
        if transport is not None and transport.socket is not None:
            transport.socket.shutdown(socket.SHUT_RDWR)


class SlowArchive(Archive):
    """Holds every instance until `release`; then keeps it and answers Success.

    `arrived` is set when the first instance waits.
    """

    def __init__(self, folder: Path, **options: Any) -> None:
        super().__init__(folder, **options)
        self.arrived = threading.Event()
        self._released = threading.Event()
        self._stopping = threading.Event()

    def release(self) -> None:
        """Answer what waits, and everything from now on."""
        self._released.set()

    def on_instance(self, event: evt.Event) -> int:
        self.arrived.set()
        self._released.wait()
        return OUT_OF_RESOURCES if self._stopping.is_set() else self.keep(event)

    def stop(self) -> None:
        self._stopping.set()
        self._released.set()
        super().stop()


class SilentArchive(SlowArchive):
    """Accepts the association, takes the instance, and never answers or keeps anything."""

    def release(self) -> None:
        """There is nothing to release: this archive stays silent until it is stopped."""


class NarrowArchive(Archive):
    """Refuses the presentation contexts of some storage SOP Classes, and works for the rest."""

    def __init__(
        self, folder: Path, *, refused_sop_class_uids: Collection[str], **options: Any
    ) -> None:
        super().__init__(folder, refused_sop_class_uids=refused_sop_class_uids, **options)


class DeafArchive(Archive):
    """Takes the connection and never answers the association request."""

    def __init__(self, folder: Path, **options: Any) -> None:
        super().__init__(folder, **options)
        self._listener: socket.socket | None = None

    def start(self) -> Self:
        # The kernel completes the connection; nobody ever reads from it.
        self._listener = socket.create_server((self.host, self.port))
        self.port = self._listener.getsockname()[1]
        return self

    def stop(self) -> None:
        if self._listener is not None:
            self._listener.close()
            self._listener = None
