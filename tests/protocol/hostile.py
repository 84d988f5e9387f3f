"""A node under fire: one whole process, and what must hold again after every attack on it."""

from __future__ import annotations

import json
import os
import resource
import socket
import struct
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import yaml

from dicom_node.harness.answers import Aborted, Accepted, Answer, Closed, Rejected
from dicom_node.harness.pdu import (
    VERIFICATION,
    Context,
)
from dicom_node.harness.peer import ScriptedPeer
from dicom_node.model import Event
from dicom_node.store.reading import StoredFile
from tests.node_process import NodeProcess, wait_until

HOST = "127.0.0.1"
AE_TITLE = "DICOM_NODE"
NEGOTIATION_TIMEOUT_S = 1.5
READ_TIMEOUT_S = 1.5
IDLE_TIMEOUT_S = 2.0
AT_ONCE_S = 1.0
"""Shorter than every time-out: whoever is sent away so soon was not waited for."""
ASSOCIATIONS_MAX = 40
CONNECTIONS_MAX = 2000

REJECTED, ABORTED, LOST = "REJECTED", "ABORTED", "LOST"
TIMED_OUT, BROKEN, REFUSED = "TIMED_OUT", "BROKEN", "REFUSED"
EVENTS = (REJECTED, ABORTED, LOST, TIMED_OUT, BROKEN, REFUSED)

SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2"
ECHO_ID, STORE_ID, CT_ID, REFUSED_ID = 1, 3, 5, 7
CONTEXTS = (
    Context(ECHO_ID, VERIFICATION),
    Context(STORE_ID, SECONDARY_CAPTURE),
    Context(CT_ID, CT_IMAGE),
    Context(REFUSED_ID, "1.2.826.0.1.3680043.10.1714.8"),  # nobody knows this SOP Class
)

ROOT = "1.2.826.0.1.3680043.10.1714.9"
STUDY = f"{ROOT}.1"
SERIES = f"{ROOT}.2"
IDENTITY = {
    0x00080050: ("SH", b"HIDDENACC "),
    0x00100010: ("PN", b"Hidden^Patient"),
    0x00100020: ("LO", b"HIDDEN-ID "),
    0x00100030: ("DA", b"19010203"),
}
"""What may never be seen outside of the data set."""


# ------------------------------------------------------------ instances


def data_set(
    sop_instance_uid: str | bytes,
    *,
    sop_class_uid: str = SECONDARY_CAPTURE,
    study_instance_uid: str | bytes = STUDY,
    series_instance_uid: str | bytes = SERIES,
    pixel_bytes: int = 64,
) -> bytes:
    """Return a small data set in Explicit VR Little Endian; UIDs given as bytes stay as they are.

    The pixels come last and end with a count, so that no two of one size are equal.
    """
    pixels = bytes(pixel_bytes - 8) + next(_numbers).to_bytes(8, "little")
    elements: dict[int, tuple[str, bytes]] = {
        0x00080016: ("UI", _padded(sop_class_uid)),
        0x00080018: ("UI", _padded(sop_instance_uid)),
        **IDENTITY,
        0x0020000D: ("UI", _padded(study_instance_uid)),
        0x0020000E: ("UI", _padded(series_instance_uid)),
        0x7FE00010: ("OW", pixels),
    }
    return b"".join(element(tag, *elements[tag]) for tag in sorted(elements))


def element(tag: int, vr: str, value: bytes) -> bytes:
    """Return one element in Explicit VR Little Endian (PS3.5 7.1.2)."""
    head = struct.pack("<HH2s", tag >> 16, tag & 0xFFFF, vr.encode())
    long = vr == "OW"
    return head + struct.pack("<xxL" if long else "<H", len(value)) + value


def new_uid() -> str:
    """Return a SOP Instance UID that no other case has; its length is odd."""
    uid = f"{ROOT}.3.{next(_numbers)}"
    return uid if len(uid) % 2 else f"{ROOT}.33.{next(_numbers)}"


def new_instance(**fields: Any) -> tuple[str, bytes]:
    """Return a SOP Instance UID and its data set."""
    uid = new_uid()
    return uid, data_set(uid, **fields)


def _padded(uid: str | bytes) -> bytes:
    encoded = uid if isinstance(uid, bytes) else uid.encode()
    return encoded if isinstance(uid, bytes) else encoded + b"\0" * (len(encoded) % 2)


_numbers = iter(range(1000, 1 << 62))


# ------------------------------------------------------------ answers


def gone(peer: ScriptedPeer, within_s: float = AT_ONCE_S) -> Answer:
    """Return how the node ended the connection: by A-ABORT, or by closing it."""
    answer = peer.receive(within_s)
    assert isinstance(answer, Aborted | Closed), answer
    return answer


def aborted(peer: ScriptedPeer, within_s: float = AT_ONCE_S) -> Aborted:
    """Return the A-ABORT that the node says."""
    answer = peer.receive(within_s)
    assert isinstance(answer, Aborted), answer
    return answer


def event_of(answer: Answer) -> tuple[str, ...]:
    """Return the event that belongs to an answer, where the standard leaves the node a choice."""
    if isinstance(answer, Rejected):
        return (REJECTED,)
    return (BROKEN,) if isinstance(answer, Aborted | Closed) else ()


# ------------------------------------------------------------ the node


class Case:
    """One attack: where it comes from, and what it must leave in the ledger."""

    def __init__(self, node: NodeUnderFire, source: str, events: Sequence[str]) -> None:
        self.node = node
        self.source = source
        self.events: Sequence[str] = events
        """Exactly these rows, in any order."""
        self.some_of: frozenset[str] = frozenset()
        """Or one row at least, none of another name: the node may put repeats together."""
        self.maybe: frozenset[str] = frozenset()
        """Or one row at most, of such a name."""
        self._peers: list[ScriptedPeer] = []

    def connect(self, timeout_s: float = 5.0) -> ScriptedPeer:
        """Return a new connection from this case's own address."""
        peer = ScriptedPeer(HOST, self.node.port, timeout_s, source=self.source)
        self._peers.append(peer)
        return peer.connect()

    def associate(self, **fields: Any) -> ScriptedPeer:
        """Return a new association with `CONTEXTS`."""
        peer = self.connect()
        answer = peer.associate(CONTEXTS, called=AE_TITLE, **fields)
        assert isinstance(answer, Accepted), answer
        assert set(answer.contexts) == {ECHO_ID, STORE_ID, CT_ID}
        assert set(answer.refused) == {REFUSED_ID}
        return peer

    def close(self) -> None:
        for peer in self._peers:
            peer.close()


class NodeUnderFire:
    """`dicom-node serve` without engines, with short time-outs, and never done with a study."""

    def __init__(self, outermost: Path) -> None:
        self.outermost = outermost
        """Nothing may be written outside of the node's folder, which lies three levels below."""
        folder = outermost / "one" / "two" / "three"
        folder.mkdir(parents=True)
        (folder / "engines").mkdir()
        (folder / "rules.yaml").write_text(yaml.safe_dump({"rules": []}))
        self._process = NodeProcess(
            folder / "node",
            free_port(),
            node={
                "engines_dir": str(folder / "engines"),
                "rules_file": str(folder / "rules.yaml"),
            },
            receive={
                "negotiation_timeout_s": NEGOTIATION_TIMEOUT_S,
                "read_timeout_s": READ_TIMEOUT_S,
                "idle_timeout_s": IDLE_TIMEOUT_S,
                "associations_max": ASSOCIATIONS_MAX,
                "connections_max": CONNECTIONS_MAX,
            },
            assemble={"quiet_after_release_s": 3600, "quiet_otherwise_s": 3600},
        )
        self.port = self._process.port
        self._cases = 0

    def start(self) -> None:
        """Start with the 1024 descriptors that systemd and shells give; then take more for us."""
        self._limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        hard = self._limits[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(1024, hard), hard))
        self._process.start()
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        self._ledger = self._process.ledger()
        self._pids = self.receiver_pids()
        uid, sent = new_instance()
        with ScriptedPeer(
            HOST, self.port
        ) as peer:  # what is opened but once is open before we count
            peer.associate(CONTEXTS, called=AE_TITLE)
            assert peer.store(STORE_ID, SECONDARY_CAPTURE, uid, sent) == 0x0000
            peer.release()
        self.wait_kept(uid, sent)

    def stop(self) -> int:
        self._ledger.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, self._limits)
        return self._process.stop()

    @contextmanager
    def case(self, *events: str) -> Iterator[Case]:
        """Let an attack happen; afterwards the node must be as if nothing had been.

        Parameters
        ----------
        *events : str
            The new rows that it must leave: none of a connection that ended by release.
        """
        self._cases += 1
        case = Case(self, f"127.1.{self._cases // 250}.{self._cases % 250 + 1}", events)
        counts, log = self._event_counts(), len(self._log())
        threads, descriptors = self.threads(), self.descriptors()
        try:
            yield case
        finally:
            case.close()
        self._answers_an_echo()
        self._noted(case, counts)
        wait_until(lambda: self.threads() <= threads, 5.0, "the end of the new threads")
        with suppress(AssertionError):  # then say which ones
            wait_until(lambda: self.descriptors().total() <= descriptors.total(), 5.0)
        assert self.descriptors().total() <= descriptors.total(), self.descriptors() - descriptors
        wait_until(lambda: self.leftovers() == [], 5.0, "the end of what came half")
        assert self.receiver_pids() == self._pids
        self._is_discreet(self._log()[log:])

    # ------------------------------------------------------------ what there is to see

    def wait_kept(self, sop_instance_uid: str, sent: bytes) -> None:
        """Wait for the instance's row, and compare its bytes with those that were sent."""
        studies = self._ledger.studies
        wait_until(lambda: studies.study_of_instance(sop_instance_uid) is not None, 5.0, "the row")
        [instance] = [
            instance
            for instance in studies.instances(STUDY)
            if instance.sop_instance_uid == sop_instance_uid
        ]
        part10 = StoredFile.at(self._process.data, instance.path).read_bytes()
        assert part10[128:132] == b"DICM"
        assert part10.endswith(sent)

    def is_kept(self, sop_instance_uid: str) -> bool:
        """Return whether there is a row; ask after the case, when everything is in the ledger."""
        return self._ledger.studies.study_of_instance(sop_instance_uid) is not None

    def receiver_pids(self) -> dict[str, int]:
        lines = [json.loads(line) for line in self._log().splitlines() if line.startswith("{")]
        started = [line for line in lines if line["event"] == "child_started"]
        pids = {line["child"]: line["pid"] for line in started}
        return {child: pid for child, pid in pids.items() if child.startswith("receiver")}

    def threads(self) -> int:
        return sum(len(os.listdir(f"/proc/{pid}/task")) for pid in self._pids.values())

    def descriptors(self) -> Counter[str]:
        """Return what the receivers have open, and how often; but a pool of ledgers may breathe."""
        links = [link for pid in self._pids.values() for link in _links(Path(f"/proc/{pid}/fd"))]
        return Counter(link for link in links if "ledger.sqlite" not in link)

    def memory_bytes(self) -> int:
        """Return the resident memory of the receivers."""
        lines = [
            line
            for pid in self._pids.values()
            for line in Path(f"/proc/{pid}/status").read_text().splitlines()
        ]
        return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS:"))

    def leftovers(self) -> list[str]:
        return [path.name for path in (self._process.data / "incoming").glob("*")]

    @contextmanager
    def full_disk(self, bytes_max: int) -> Iterator[None]:
        """Let no file of the receivers be written beyond so many bytes (EFBIG, not ENOSPC)."""
        limits = {pid: resource.prlimit(pid, resource.RLIMIT_FSIZE) for pid in self._pids.values()}
        try:
            for pid, (_, hard) in limits.items():
                resource.prlimit(pid, resource.RLIMIT_FSIZE, (bytes_max, hard))
            yield
        finally:
            for pid, limit in limits.items():
                resource.prlimit(pid, resource.RLIMIT_FSIZE, limit)

    # ------------------------------------------------------------ what must hold

    def _answers_an_echo(self) -> None:
        began = time.monotonic()
        with ScriptedPeer(HOST, self.port, AT_ONCE_S) as peer:
            assert isinstance(peer.associate(called=AE_TITLE), Accepted)
            assert peer.echo() == 0x0000
            peer.release()
        assert time.monotonic() - began < AT_ONCE_S

    def _noted(self, case: Case, before: Mapping[str, int]) -> None:
        """The ledger has the events of this case and no others.

        Rows come behind the answers, in order: one that is provoked last shows that all are there.
        """
        if case.events or case.some_of:
            wait_until(lambda: bool(self._event_counts() - Counter(before)), 5.0, "an event")
        nobody = f"NOBODY{self._cases}"
        with ScriptedPeer(HOST, self.port, source="127.2.0.1") as peer:
            assert isinstance(peer.associate(called=AE_TITLE, calling=nobody), Rejected)
        wait_until(lambda: any(_names(event, nobody) for event in self._named(REJECTED)), 5.0)
        found = self._event_counts() - Counter(before) - Counter([REJECTED])
        if case.some_of:
            assert found
            assert set(found) <= case.some_of
        elif case.maybe:
            assert found.total() <= 1
            assert set(found) <= case.maybe
        else:
            assert found == Counter(case.events)

    def _event_counts(self) -> Counter[str]:
        return Counter({name: len(self._named(name)) for name in EVENTS})

    def _named(self, name: str) -> list[Event]:
        kind = "instance" if name == REFUSED else "association"
        found = self._ledger.events.named(name)
        return [event for event in found if event.subject_kind == kind]

    def _log(self) -> str:
        return self._process.log()

    def _is_discreet(self, log: str) -> None:
        """No traceback, nothing that Python says of a leak, and nobody's identity."""
        for word in ("exception", "Traceback", "Warning"):
            assert word not in log, log[-3000:]
        for _, value in IDENTITY.values():
            assert value.decode().strip() not in log


def free_port() -> int:
    with socket.create_server((HOST, 0)) as listener:
        port: int = listener.getsockname()[1]
    return port


def _names(event: Event, ae_title: str) -> bool:
    return ae_title in (event.subject, *event.reason.replace("`", " ").split())


def _links(folder: Path) -> Iterator[str]:
    for entry in os.listdir(folder):
        try:
            yield os.readlink(folder / entry)
        except FileNotFoundError:  # closed since
            continue
