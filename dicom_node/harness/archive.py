"""An archive for tests and demos: a C-STORE and C-ECHO SCP that keeps what it gets, as it came.

Every instance becomes a Part 10 file, `<study>/<series>/<sop instance>.dcm`, whose data set is byte
for byte what the sender sent. The same instance again is counted; the same UID with other bytes is
a conflict: the first one stays, and `conflicts()` tells. `faults.py` has archives that misbehave,
`query_archive.py` one that answers C-FIND, C-MOVE and C-GET.

As a program: `python -m dicom_node.harness.archive --folder F --port 11113 --ae-title ARCHIVE`.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import signal
import socket
import socketserver
import sys
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self, cast

import pydicom
from pydicom._uid_dict import UID_dictionary
from pynetdicom import AE, AllStoragePresentationContexts, evt
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]
from pynetdicom.transport import ThreadedAssociationServer

from dicom_node.errors import StudyUnusable
from dicom_node.headers import reading
from dicom_node.uid import is_uid

SUCCESS = 0x0000
CANNOT_UNDERSTAND = 0xC000
JOIN_TIMEOUT_S = 10.0

TRANSFER_SYNTAXES = [uid for uid, entry in UID_dictionary.items() if entry[1] == "Transfer Syntax"]
"""Every one of PS3.6 table A-1, the retired ones too: old images still come in them."""


@dataclass(frozen=True)
class Received:
    """One SOP Instance that the archive keeps."""

    sop_instance_uid: str
    sop_class_uid: str
    study_instance_uid: str
    series_instance_uid: str
    transfer_syntax_uid: str
    calling_ae_title: str
    """Who sent it first."""
    digest: str
    """SHA-256 (hexadecimal) of the data set as it was sent, without File Meta."""
    count: int
    """How often these bytes came; 1 where nobody repeated himself."""
    path: Path


@dataclass(frozen=True)
class Conflict:
    """A SOP Instance UID that came a second time with other bytes."""

    sop_instance_uid: str
    digest_kept: str
    digest_sent: str


class Archive:
    """A C-STORE and C-ECHO SCP on its own threads; a context manager, or `start` and `stop`.

    Parameters
    ----------
    folder : Path
        Where the files go; made if missing. What already lies there is neither read nor removed.
    ae_title : str
        Our AE title. Senders may call us by any other.
    host, port : str, int
        Where to listen; port 0 takes a free one, and `port` says which after `start`.
    refused_sop_class_uids : collection of str
        Storage SOP Classes whose presentation contexts are refused.
    """

    def __init__(
        self,
        folder: Path,
        *,
        ae_title: str = "ARCHIVE",
        host: str = "127.0.0.1",
        port: int = 0,
        refused_sop_class_uids: Collection[str] = (),
    ) -> None:
        self.folder = folder
        self.ae_title = ae_title
        self.host = host
        self.port = port
        self._refused = frozenset(refused_sop_class_uids)
        self._received: dict[str, Received] = {}
        self._conflicts: list[Conflict] = []
        self._changed = threading.Condition()
        self._ae: AE | None = None
        self._server: ThreadedAssociationServer | None = None
        self._thread: threading.Thread | None = None

    # ------------------------------------------------------------ life

    def start(self) -> Self:
        """Listen; on return, associations are accepted at `host`:`port`."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self._ae = ae = AE(self.ae_title)
        ae.maximum_pdu_size = 131072
        ae.maximum_associations = 100
        self.offer(ae)
        self._server = cast(
            ThreadedAssociationServer,
            ae.make_server(
                (self.host, self.port),
                evt_handlers=[
                    (evt.EVT_CONN_OPEN, send_at_once),
                    (evt.EVT_REQUESTED, self.on_association),
                    (evt.EVT_ACCEPTED, self.on_accepted),
                    (evt.EVT_C_STORE, self.on_instance),
                ],
                server_class=ThreadedAssociationServer,
            ),
        )
        listening = cast(socket.socket, self._server.socket)
        self.port = listening.getsockname()[1]
        # The poll is how long stop() waits; pynetdicom's own start_server takes half a second.
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.02,), name=f"archive-{self.port}"
        )
        self._thread.start()
        return self

    def stop(self) -> None:
        """Close the port, abort what is open, and wait until every thread has ended."""
        if self._ae is None or self._server is None or self._thread is None:
            return
        # pynetdicom's own shutdown wants the server in a list of start_server's.
        socketserver.BaseServer.shutdown(self._server)
        self._server.server_close()
        self._thread.join(JOIN_TIMEOUT_S)
        for association in self._ae.active_associations:
            if not association.is_rejected:  # that one is at its end, where there is no A-ABORT
                association.abort()
            association.join(JOIN_TIMEOUT_S)
        self._ae = self._server = self._thread = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    # ------------------------------------------------------------ what it got

    def received(self) -> tuple[Received, ...]:
        """Return what the archive keeps, in the order of arrival."""
        with self._changed:
            return tuple(self._received.values())

    def conflicts(self) -> tuple[Conflict, ...]:
        """Return the UIDs that came again with other bytes, in the order of arrival."""
        with self._changed:
            return tuple(self._conflicts)

    def wait_for(
        self, instances: int | Callable[[tuple[Received, ...]], bool], timeout_s: float = 30.0
    ) -> bool:
        """Wait until so many instances are kept, or until a test of them holds.

        Returns
        -------
        bool
            False if `timeout_s` passed first.
        """
        if callable(instances):
            enough = instances
        else:
            wanted = instances

            def enough(received: tuple[Received, ...]) -> bool:
                return len(received) >= wanted

        with self._changed:
            return self._changed.wait_for(lambda: enough(tuple(self._received.values())), timeout_s)

    # ------------------------------------------------------------ what others override

    storage_roles: ClassVar[Mapping[str, bool]] = {}
    """What SCP/SCU Role Selection is answered (PS3.7 D.3.3.4): nothing, we are the SCP."""

    def offer(self, ae: AE) -> None:
        """Add the presentation contexts that are accepted."""
        for context in AllStoragePresentationContexts:
            if context.abstract_syntax not in self._refused:
                ae.add_supported_context(
                    str(context.abstract_syntax), TRANSFER_SYNTAXES, **self.storage_roles
                )
        ae.add_supported_context(Verification)

    def on_accepted(self, event: evt.Event) -> None:
        """An association is accepted; no message has been taken from it yet."""

    def on_association(self, event: evt.Event) -> None:
        """An association is requested; nothing has been answered yet."""

    def on_instance(self, event: evt.Event) -> int:
        """A C-STORE request is here whole; return the status of the response."""
        return self.keep(event)

    def keep(self, event: evt.Event) -> int:
        """Write the instance, count it, and return Success."""
        request = cast(C_STORE, event.request)
        sop_instance_uid = str(request.AffectedSOPInstanceUID)
        if not is_uid(sop_instance_uid):  # it becomes a file name
            return CANNOT_UNDERSTAND
        digest = hashlib.sha256(event.encoded_dataset(include_meta=False)).hexdigest()
        with self._changed:
            known = self._received.get(sop_instance_uid)
            if known is None:
                known = self._write(event, sop_instance_uid, digest)
            elif known.digest == digest:
                known = replace(known, count=known.count + 1)
            else:
                self._conflicts.append(Conflict(sop_instance_uid, known.digest, digest))
            self._received[sop_instance_uid] = known
            self._changed.notify_all()
        return SUCCESS

    def _write(self, event: evt.Event, sop_instance_uid: str, digest: str) -> Received:
        part10 = event.encoded_dataset()
        study_instance_uid, series_instance_uid = _place_of(part10)
        folder = self.folder / study_instance_uid / series_instance_uid
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{sop_instance_uid}.dcm"
        unfinished = path.with_suffix(".part")
        unfinished.write_bytes(part10)
        os.replace(unfinished, path)  # who lists the folder sees whole files only
        return Received(
            sop_instance_uid=sop_instance_uid,
            sop_class_uid=str(event.request.AffectedSOPClassUID),
            study_instance_uid=study_instance_uid,
            series_instance_uid=series_instance_uid,
            transfer_syntax_uid=str(event.context.transfer_syntax),
            calling_ae_title=str(event.assoc.requestor.ae_title),
            digest=digest,
            count=1,
            path=path,
        )


def send_at_once(event: evt.Event) -> None:
    """Set TCP_NODELAY: pynetdicom does not, and Nagle then costs 40 ms a message."""
    transport = event.assoc.dul.socket
    if transport is not None and transport.socket is not None:
        transport.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _place_of(part10: bytes) -> tuple[str, str]:
    """Return Study and Series Instance UID, "unknown" for one that cannot name a folder."""
    keywords = ["StudyInstanceUID", "SeriesInstanceUID"]
    try:
        with reading("the data set"):
            dataset = pydicom.dcmread(
                BytesIO(part10), stop_before_pixels=True, force=True, specific_tags=keywords
            )
            uids = [str(dataset.get(keyword, "")) for keyword in keywords]
    except StudyUnusable:
        uids = ["", ""]  # a broken data set is kept all the same
    study_instance_uid, series_instance_uid = (uid if is_uid(uid) else "unknown" for uid in uids)
    return study_instance_uid, series_instance_uid


def main(arguments: Sequence[str] | None = None, kind: type[Archive] = Archive) -> int:
    """Run an archive of a kind until SIGTERM or SIGINT; print the port it listens on."""
    parser = argparse.ArgumentParser(description="A small DICOM archive for tests and demos.")
    parser.add_argument("--folder", type=Path, required=True, help="where the files go")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--ae-title", default="ARCHIVE")
    options = parser.parse_args(arguments)
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    with kind(
        options.folder, ae_title=options.ae_title, host=options.host, port=options.port
    ) as archive:
        sys.stdout.write(f"listening on {archive.port}\n")
        sys.stdout.flush()
        stopped.wait()
    return 0


if __name__ == "__main__":
    sys.exit(main())
