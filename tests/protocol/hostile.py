"""A node under fire: one whole process, and what must hold again after every attack on it."""

from __future__ import annotations

import json
import os
import resource
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import yaml

from dicom_node.harness.answers import Accepted, Rejected
from dicom_node.harness.peer import ScriptedPeer
from dicom_node.model import Event
from dicom_node.store.reading import StoredFile
from tests.node_process import NodeProcess, wait_until
from tests.ports import free_port
from tests.protocol.attacks import (
    AE_TITLE,
    AT_ONCE_S,
    CONTEXTS,
    CT_ID,
    ECHO_ID,
    EVENTS,
    IDENTITY,
    REFUSED,
    REFUSED_ID,
    REJECTED,
    SECONDARY_CAPTURE,
    STORE_ID,
    STUDY,
    new_instance,
)

HOST = "127.0.0.1"
NEGOTIATION_TIMEOUT_S = 1.5
READ_TIMEOUT_S = 1.5
IDLE_TIMEOUT_S = 2.0
LINGER_S = 2.0
"""How long the node waits for the peer to close after the end (ARTIM, PS3.8 9.1.5)."""
ASSOCIATIONS_MAX = 40
CONNECTIONS_MAX = 1200


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

    def connect(self, timeout_s: float = 5.0, **options: Any) -> ScriptedPeer:
        """Return a new connection from this case's own address."""
        peer = ScriptedPeer(HOST, self.node.port, timeout_s, source=self.source, **options)
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
                "receivers": 1,  # one log, so rows come in order and limits are counted once
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
            # even after a failure, or the next case would be blamed for what this one left
            self._close_down_to(descriptors)
            self._wait_for_rows()
        self._answers_an_echo()
        self._noted(case, counts)
        more = self._close_down_to(descriptors)
        assert not more, more
        wait_until(lambda: self.threads() <= threads, 5.0, "the end of the new threads")
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

    def _close_down_to(self, before: Counter[str]) -> Counter[str]:
        """Wait until no more descriptors are open than before; return the new ones if there are."""
        with suppress(AssertionError):
            wait_until(lambda: self.descriptors().total() <= before.total(), 5.0)
        now = self.descriptors()
        return now - before if now.total() > before.total() else Counter()

    def _wait_for_rows(self) -> None:
        """Wait until the ledger has all events: rows come behind the answers, but in order."""
        nobody = f"NOBODY{self._cases}"
        with ScriptedPeer(HOST, self.port, source="127.2.0.1") as peer:
            assert isinstance(peer.associate(called=AE_TITLE, calling=nobody), Rejected)
        wait_until(lambda: any(nobody in event.reason for event in self._named(REJECTED)), 5.0)

    def _noted(self, case: Case, before: Counter[str]) -> None:
        """The ledger has the events of this case, and `_wait_for_rows`'s, and no others."""
        found = self._event_counts() - before - Counter([REJECTED])
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


def _links(folder: Path) -> Iterator[str]:
    for entry in os.listdir(folder):
        try:
            yield os.readlink(folder / entry)
        except FileNotFoundError:  # closed since
            continue
