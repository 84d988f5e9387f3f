"""Simulated archives that lie, and the world around them: no socket, no thread, a clock by hand.

What runs here is the node's own deliver stage on its own ledger; only the archive behind the port
and the clock are made up. The archive keeps apart what it says and what it has.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from itertools import count
from pathlib import Path
from time import gmtime
from typing import Literal

from sqlalchemy import func, insert, select

from dicom_node.claims import Sent
from dicom_node.config.settings import Config, DeliverSettings, Peer
from dicom_node.deliver.archive import Archive, TakeAnswers
from dicom_node.deliver.copies import Copies
from dicom_node.deliver.deliverer import Deliverer
from dicom_node.deliver.forwarder import Forwarder
from dicom_node.deliver.originals import Original
from dicom_node.deliver.outlets import Outlets
from dicom_node.deliver.prover import Prover
from dicom_node.errors import DeliveryError, PeerRefused, PeerUnreachable, ResultLost
from dicom_node.ledger import schema
from dicom_node.ledger.arrivals import put_instances
from dicom_node.ledger.database import Database
from dicom_node.ledger.deliveries import Parcel, plan_delivery
from dicom_node.ledger.ledger import Ledger
from dicom_node.lifecycle import DeliveryState
from dicom_node.model import Forward, ForwardTask, Instance, Priority, Result
from dicom_node.scu.content import Content
from dicom_node.scu.retrieve import ReceivedInstance
from dicom_node.store.local import LocalStore
from tests.unit.ledger import rows
from tests.unit.route.made import key_of

HOUR_S = 3600.0
SEG, SR = "1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.88.34"
OPEN = (DeliveryState.PENDING, DeliveryState.SENDING, DeliveryState.SENT)

_COLUMNS = tuple(field.name for field in fields(Result))

Commits = Literal["not offered", "breaks", "at once", "late", "partly", "never"]


@dataclass(frozen=True)
class Character:
    """How an archive lies."""

    drops: float = 0.0
    """The share of instances that it answers Success for and throws away."""
    always_drops: float = 0.0
    """The share of instances that it never keeps, whatever it answers."""
    aborts: float = 0.0
    """The share of instances at which it aborts, before or after it has kept them."""
    commits: Commits = "not offered"
    answers_find: bool = False
    damages: float = 0.0
    """The share of instances of which it keeps something else."""
    restarts: tuple[tuple[float, float], ...] = ()
    """When it is down; what it had not yet written to its disk is lost."""
    refuses: frozenset[str] = frozenset()
    """The SOP Classes that it does not accept."""
    slow_s: float = 0.0
    """How long each answer takes it."""
    full: tuple[float, float] | None = None
    """When it answers 0xA700."""
    warns: bool = False
    withholds: bool = False
    """Whether it gives nothing back."""
    duplicates: bool = False
    """Whether it answers 0x0111 to what it has, and has everything."""


class World:
    """The clock, and what is going to happen."""

    def __init__(self, now: float = 1_000_000.0) -> None:
        self.now = now
        self._to_come: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = count()

    def __call__(self) -> float:
        return self.now

    def at(self, when: float, happens: Callable[[], None]) -> None:
        heapq.heappush(self._to_come, (when, next(self._numbers), happens))

    @property
    def next_at(self) -> float | None:
        return self._to_come[0][0] if self._to_come else None

    def go_to(self, when: float) -> None:
        """Let the time pass, and what happens meanwhile happen."""
        self.now = max(self.now, when)
        while self._to_come and self._to_come[0][0] <= self.now:
            heapq.heappop(self._to_come)[2]()


@dataclass
class SimulatedArchive:
    """An archive behind the port, with a character."""

    name: str
    world: World
    ledger: Ledger
    character: Character = field(default_factory=Character)
    seed: int = 0
    kept: dict[str, str] = field(default_factory=dict)
    """What it really has: the bytes by SOP Instance UID."""
    versions: dict[str, set[str]] = field(default_factory=dict)
    """Every bytes that ever came under a SOP Instance UID."""
    stores: dict[str, int] = field(default_factory=dict)
    """How often each came."""
    probes: int = 0

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)
        self._unwritten: dict[str, str] = {}
        self._never_kept: dict[str, bool] = {}
        begun_at = self.world.now
        self.down = [(begun_at + a, begun_at + b) for a, b in self.character.restarts]
        full = self.character.full
        self._full = (begun_at + full[0], begun_at + full[1]) if full else (0.0, 0.0)
        for down_at, _ in self.down:
            self.world.at(down_at, self._unwritten.clear)

    # ------------------------------------------------------------ the port

    def echo(self) -> None:
        self.probes += 1
        self._answer()

    def store(self, results: Sequence[Result]) -> Iterator[DeliveryError | str]:
        self._answer()
        for result in results:
            yield self._store(result.sop_instance_uid, result.sop_class_uid, result.digest)

    def forward(self, originals: Sequence[Original]) -> Iterator[DeliveryError | str]:
        self._answer()
        for one in originals:
            content = one.content.read().decode()
            yield self._store(one.sop_instance_uid, one.sop_class_uid, content)

    def commit(self, transaction_uid: str, sent: Sequence[Sent], take: TakeAnswers) -> None:
        self._answer()
        how = self.character.commits
        if how == "not offered":
            raise PeerRefused(f"{self.name} accepts no Storage Commitment", status=0x0122)
        if how == "breaks":
            raise PeerUnreachable(f"{self.name} aborted")
        if how == "at once":
            take(self._judged(sent))
            return
        if how == "never":
            return
        if self._random.random() < 0.3:
            raise PeerUnreachable(f"{self.name} took the request and was gone")
        wait_s = self._random.choice((1.0, 60.0, 900.0, 5 * HOUR_S, 30 * HOUR_S))
        self.world.at(self.world.now + wait_s, lambda: self._report(transaction_uid, list(sent)))

    def find(self, sent: Sequence[Sent]) -> frozenset[str]:
        self._answer()
        if not self.character.answers_find:
            raise PeerRefused(f"{self.name} accepts no C-FIND", status=0x0122)
        self._write()
        return frozenset(r.sop_instance_uid for r in sent if r.sop_instance_uid in self.kept)

    def fetch(self, sent: Sent) -> ReceivedInstance | None:
        self._answer()
        uid = sent.sop_instance_uid
        if self.character.withholds or uid not in self.kept:
            return None
        content = self.kept[uid].encode()
        return ReceivedInstance(sent.sop_class_uid, uid, sent.transfer_syntax_uid, content)

    # ------------------------------------------------------------ what it does

    def _answer(self) -> None:
        self.world.go_to(self.world.now + self.character.slow_s)
        if any(down_at <= self.world.now < up_at for down_at, up_at in self.down):
            raise PeerUnreachable(f"{self.name} cannot be reached")

    def _store(self, uid: str, sop_class_uid: str, content: str) -> DeliveryError | str:
        self._answer()
        character, drawn = self.character, self._random.random
        if sop_class_uid in character.refuses:
            return PeerRefused(f"{self.name} accepts no {sop_class_uid}", status=0x0122)
        if self._full[0] <= self.world.now < self._full[1]:
            return PeerRefused(f"{self.name} answered 0xA700", status=0xA700, retryable=True)
        aborts = drawn() < character.aborts
        if aborts and drawn() < 0.5:
            raise PeerUnreachable(f"{self.name} aborted")
        self.stores[uid] = self.stores.get(uid, 0) + 1
        self.versions.setdefault(uid, set()).add(content)
        never = self._never_kept.setdefault(uid, drawn() < character.always_drops)
        if not never and drawn() >= character.drops:
            damaged = drawn() < character.damages
            self._unwritten[uid] = "damaged" if damaged else content
        if aborts:
            raise PeerUnreachable(f"{self.name} aborted")
        if character.duplicates:
            return PeerRefused(f"{self.name} answered 0x0111", status=0x0111)
        return "stored with warning 0xB000" if character.warns else "stored"

    def _write(self) -> None:
        """Write to the disk what came: who has answered for it cannot lose it any more."""
        self.kept.update(self._unwritten)
        self._unwritten.clear()

    def _judged(self, sent: Sequence[Sent]) -> dict[str, int]:
        self._write()
        return {
            one.sop_instance_uid: 0 if one.sop_instance_uid in self.kept else 0x0112 for one in sent
        }

    def _report(self, transaction_uid: str, sent: list[Sent]) -> None:
        if any(down_at <= self.world.now < up_at for down_at, up_at in self.down):
            return
        answers = self._judged(sent)
        if self.character.commits == "partly":
            answers = {uid: a for uid, a in answers.items() if self._random.random() < 0.6}
        self.ledger.proofs.answered(transaction_uid, [self.name], answers, self.world.now)


class Site:
    """A ledger that many runs share, each with results and a destination of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ledger = rows.new_ledger(folder)
        rows.finished(self.ledger, rows.a_result(1), job=rows.a_job(destinations=()))
        self.database = Database(f"sqlite:///{folder / 'ledger.sqlite'}")

    def results(
        self,
        destination: str,
        number: int,
        now: float,
        priority: Priority = Priority.ROUTINE,
        first: int = 1,
    ) -> list[Result]:
        """Make results, numbered from `first`, and have them sent to a destination."""
        made = [
            rows.a_result(
                sop_instance_uid=f"2.25.{destination.removeprefix('archive')}.{i}",
                sop_class_uid=SEG if i % 2 else SR,
                kind="SEG" if i % 2 else "SR",
                digest=f"{destination} {i}",
            )
            for i in range(first, first + number)
        ]
        values = [{name: getattr(r, name) for name in _COLUMNS} for r in made]
        with self.database.writing() as connection:
            connection.execute(insert(schema.results), values)
            for result in made:
                plan_delivery(self.database, connection, result, destination, priority, now)
        return made

    def originals(
        self, destination: str, number: int, now: float, profile: str = "", first: int = 1
    ) -> list[Instance]:
        """Let instances of a study come, numbered from `first`, and have them forwarded."""
        study = f"2.25.{destination.removeprefix('archive')}.0"
        come = [
            rows.an_instance(
                i,
                study_instance_uid=study,
                series_instance_uid=f"{study}.{i % 2}",
                sop_class_uid=SEG if i % 3 == 0 else rows.CT_IMAGE_STORAGE,
            )
            for i in range(first, first + number)
        ]
        with self.database.writing() as connection:
            put_instances(self.database, connection, come, "replace")
        keys = tuple(key_of(one) for one in come)
        planned = Forward(destination, profile, Priority.ROUTINE, "all", keys)
        self.ledger.routing.forward_at_once(study, [planned], now)
        return come

    def close(self) -> None:
        self.ledger.close()
        self.database.close()


class SimulatedCopies(Copies):
    """What goes out of an instance is its digest; a profile gives it other UIDs."""

    def __init__(self, site: Site) -> None:
        super().__init__(site.ledger, LocalStore(site.folder / "data"), {}, b"")

    def copy(self, instance: Instance, profile: str) -> Original:
        content = Content.of(instance.digest.encode())
        uid, syntax = instance.sop_instance_uid, instance.transfer_syntax_uid
        if not profile:
            return Original(instance.sop_class_uid, uid, syntax, content)
        place = f"{instance.study_instance_uid}.9", f"{instance.series_instance_uid}.9"
        return Original(instance.sop_class_uid, f"{uid}.9", syntax, content, place)


@dataclass(frozen=True)
class Ending:
    """What the ledger says of one original at one destination."""

    sop_instance_uid: str
    """As it went."""
    digest: str
    state: DeliveryState
    reason: str
    resends: int


class Killed(BaseException):
    """The node was killed; nothing of it but its ledger is left."""


class Node:
    """The deliver stage of a node: built, killed, and built again on the same ledger."""

    def __init__(
        self,
        site: Site,
        world: World,
        archives: Mapping[str, SimulatedArchive],
        peers: Mapping[str, Peer],
        kills: Callable[[], bool] = lambda: False,
        **settings: float,
    ) -> None:
        given = {"retry_first_s": 20, "retry_longest_s": 3600, **settings}
        self._config = Config(deliver=DeliverSettings.model_validate(given), peers=dict(peers))
        self.ledger = site.ledger
        self.database = site.database
        self.world = world
        self.archives = archives
        self.peers = peers
        self._kills = kills
        self.lost_files: frozenset[str] = frozenset()
        """Of ours, by their digests."""
        self._copies = SimulatedCopies(site)
        self._uids = count(1)
        self._build()

    def _build(self) -> None:
        archives: dict[str, Archive] = dict(self.archives)
        config, ledger, clock = self._config, self.ledger, self.world
        outlets = Outlets(config, ledger, archives, clock, gmtime)
        self.deliverer = Deliverer(config, ledger, archives, outlets, clock, self._checkpoint)
        parts = (config, ledger, archives)
        self.forwarder = Forwarder(*parts, self._copies, outlets, clock, self._checkpoint)
        self.prover = Prover(*parts, outlets, self._is_same, clock, self._new_uid, self._checkpoint)

    def _is_same(self, sent: Sent, returned: ReceivedInstance) -> bool:
        if sent.digest in self.lost_files:
            raise ResultLost("our file cannot be read")
        return returned.data_set.decode() == sent.digest

    def _new_uid(self) -> str:
        return f"2.25.{self.world.now:.0f}{next(self._uids)}"

    def _checkpoint(self, name: str) -> None:
        if self._kills():
            raise Killed(name)

    def turn(self, name: str) -> None:
        """Take the turns that the node's lanes take; after a kill the node starts again."""
        try:
            self.deliverer.turn(name)
            while self.forwarder.turn(name):
                pass
            self.prover.turn(name)
        except Killed:
            self._build()
            why = "the node stopped while it was sent"
            for parcel in self.of(name):
                if parcel.delivery.state is DeliveryState.SENDING:
                    self.ledger.deliveries.interrupt(parcel.delivery, why, self.world.now)
            for forward in self.forwards(name):
                if forward.state is DeliveryState.SENDING:
                    self.ledger.forwards.interrupt(forward, why, self.world.now)

    def of(self, name: str) -> list[Parcel]:
        return self.ledger.deliveries.parcels(schema.deliveries.c.destination == name)

    def forwards(self, name: str) -> list[ForwardTask]:
        every = self.ledger.forwards.in_states(*DeliveryState)
        return [forward for forward in every if forward.destination == name]

    def endings(self, name: str) -> list[Ending]:
        """Return what became of every original for a destination."""
        f, c, o = schema.forwards, schema.consignments, schema.forwarded_instances
        query = (
            select(o, c.c.state, c.c.reason)
            .join(f, f.c.forward_id == o.c.forward_id)
            .outerjoin(c, c.c.consignment_id == o.c.consignment_id)
            .where(f.c.destination == name)
            .order_by(o.c.sop_instance_uid)
        )
        found = []
        with self.database.reading() as connection:
            for row in connection.execute(query):
                uid = row.sent_as[2] if row.sent_as else row.sop_instance_uid
                state = "DEAD" if row.refused else row.state or "PENDING"
                reason = row.refused or row.reason or ""
                found.append(Ending(uid, row.digest, DeliveryState(state), reason, row.resends))
        return found

    def next_due_at(self, name: str) -> float | None:
        """Return when there is something to be done; None if all has come to its end."""
        dues: list[float | None] = []
        with self.database.reading() as connection:
            for table, states in (
                (schema.deliveries, OPEN),
                (schema.forwards, OPEN[:2]),
                (schema.consignments, OPEN[2:]),
            ):
                first = select(func.min(table.c.not_before)).where(
                    table.c.destination == name, table.c.state.in_([one.value for one in states])
                )
                dues.append(connection.execute(first).scalar_one())
        due_at = min((due for due in dues if due is not None), default=None)
        breakers = {breaker.destination: breaker for breaker in self.ledger.breakers.all_open()}
        if due_at is not None and name in breakers:
            return max(due_at, breakers[name].not_before)
        return due_at

    def run(self, days_max: float = 30.0, turns_max: int = 5000) -> None:
        """Let the time pass until nothing is open and nothing is to come.

        Raises
        ------
        AssertionError
            If something stays open for too long.
        """
        give_up_at = self.world.now + days_max * 24 * HOUR_S
        for _ in range(turns_max):
            for name in self.archives:
                self.turn(name)
            due = [self.next_due_at(name) for name in self.archives]
            when = min((at for at in (*due, self.world.next_at) if at is not None), default=None)
            if when is None:
                return
            assert when < give_up_at, "something stays open for ever"
            self.world.go_to(max(when, self.world.now + 0.001))
        raise AssertionError("something is tried for ever")
