"""Whatever is sent, answered, lost, chosen and retried in whatever order, a forward stays true.

It never says more than its instances do, nothing is counted that is not there, and what is open has
something that will close it.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from dicom_node.claims import Claim, Outcome
from dicom_node.ledger import schema
from dicom_node.ledger.database import Database
from dicom_node.lifecycle import DELIVERY_MOVES, DeliveryEvent, DeliveryState
from dicom_node.model import Forward, ForwardTask, InstanceKey, Priority
from tests.unit.ledger import rows
from tests.unit.ledger.rows import STUDY, an_instance
from tests.unit.route.made import key_of

INSTANCES = 4
OUTCOMES = (
    DeliveryEvent.PROVEN,
    DeliveryEvent.UNPROVEN,
    DeliveryEvent.MISSED,
    DeliveryEvent.GIVEN_UP,
    DeliveryEvent.POSTPONED,
)


@dataclass
class Story:
    """A ledger with one forward, and what was looked at some time ago."""

    folder: Path
    now: float = 500.0
    seen: list[Claim] = field(default_factory=list)
    task: ForwardTask | None = None

    def __post_init__(self) -> None:
        self.ledger = rows.new_ledger(self.folder)
        self.database = Database(f"sqlite:///{self.folder / 'ledger.sqlite'}")
        come = [an_instance(number) for number in range(1, INSTANCES + 1)]
        rows.receive(self.ledger, *come)
        self.keys = [key_of(one) for one in come]
        self.choose(self.keys[:2])

    def choose(self, keys: list[InstanceKey]) -> None:
        planned = Forward("archive", "", Priority.ROUTINE, "all", tuple(keys))
        self.ledger.routing.forward_at_once(STUDY, [planned], self.now)

    @property
    def forward(self) -> ForwardTask:
        [forward] = self.ledger.forwards.of_study(STUDY)
        return forward

    def act(self, what: str, which: int) -> None:
        """Let something happen; `which` chooses among what it can happen to."""
        self.now += 1
        forwards, proofs = self.ledger.forwards, self.ledger.proofs
        key = self.keys[which % INSTANCES]
        match what:
            case "choose":
                self.choose([key])
            case "other bytes":
                self.keys[which % INSTANCES] = key._replace(digest=f"bytes at {self.now}")
                self.choose([self.keys[which % INSTANCES]])
            case "start":
                self.task = forwards.start(self.forward, self.now) or self.task
            case "sent" if self.task is not None:
                unsent = forwards.unsent(self.forward.forward_id, 1 + which % 3)
                forwards.sent(self.task, unsent, [], self.now)
            case "refused" if self.task is not None:
                unsent = forwards.unsent(self.forward.forward_id, 1)
                forwards.sent(self.task, [], [(one, "0xC000") for one in unsent], self.now)
            case "accepted" if self.task is not None:
                forwards.accepted(self.task, "all sent", self.now)
            case "postpone" if self.task is not None:
                forwards.postpone(self.task, "unreachable", self.now, self.now)
            case "give up" if self.task is not None:
                forwards.give_up(self.task, "for days", self.now)
            case "look":
                self.seen = proofs.due("archive", self.now + 9, 9)
            case "ask" if self.seen:
                proofs.asked(self.seen, "2.25.7", "asked", self.now, self.now)
            case "answer":
                some = self.keys[: 1 + which % INSTANCES]
                answers = {one.sop_instance_uid: 0x0112 * (which % 2) for one in some}
                proofs.answered("2.25.7", ["archive"], answers, self.now)
            case "follow":
                kinds = 1 + which // 4 % 5
                each = [OUTCOMES[(which // 20 + place % kinds) % 5] for place in range(9)]
                outcomes = [
                    (claim, Outcome(event, str(event), self.now))
                    for claim, event in zip(self.seen, each, strict=False)
                ]
                proofs.follow(outcomes[: 1 + which % 4], self.now)
            case "send":
                self._send()
            case "conclude":
                self.seen = proofs.due("archive", self.now + 9, 9)
                self.act("follow", which * 4 + 3)
            case "retry":
                forwards.retry(self.forward.forward_id, self.now)

    def _send(self) -> None:
        """Send what is due, to its end."""
        started = self.ledger.forwards.start(self.forward, self.now)
        if started is not None:
            self.task = started
            unsent = self.ledger.forwards.unsent(started.forward_id, 9)
            self.ledger.forwards.sent(started, unsent, [], self.now)
            self.ledger.forwards.accepted(started, "all sent", self.now)

    def check(self) -> None:
        c, o = schema.consignments, schema.forwarded_instances
        with self.database.reading() as connection:
            found = {row.consignment_id: row for row in connection.execute(select(c))}
            each = connection.execute(select(o)).all()
        real = Counter(row.consignment_id for row in each if row.consignment_id is not None)
        assert {number: row.instance_count for number, row in found.items()} == real
        assert all((row.sent_at is None) is (row.consignment_id is None) for row in each)
        assert not any(row.refused and row.sent_at is not None for row in each)
        states = {DeliveryState(row.state) for row in found.values()}
        unsent = [row for row in each if row.sent_at is None and not row.refused]
        refused = [row for row in each if row.refused]
        match self.forward.state:
            case DeliveryState.PROVEN:
                assert states <= {DeliveryState.PROVEN}
                assert not unsent
                assert not refused
            case DeliveryState.UNPROVEN:
                assert states <= {DeliveryState.PROVEN, DeliveryState.UNPROVEN}
                assert DeliveryState.UNPROVEN in states
                assert not unsent
                assert not refused
            case DeliveryState.SENT:
                assert DeliveryState.SENT in states  # somebody is going to be asked
                assert DeliveryState.PENDING not in states
                assert not unsent
        if not unsent and self.forward.state is DeliveryState.DEAD:
            assert DeliveryState.PENDING not in states
        counted = self.ledger.forwards.instance_counts().get("archive", {})
        assert sum(counted.values()) == len(each)

    def close(self) -> None:
        events = [e for e in self.ledger.events.of("1") if e.subject_kind == "forward"]
        way = [event for event in events if event.from_state]
        moves = {(str(s), str(e), str(t)) for (s, e), t in DELIVERY_MOVES.items()}
        assert {(e.from_state, e.event, e.to_state) for e in way} <= moves
        assert all(before.to_state == after.from_state for before, after in pairwise(way))
        self.ledger.close()
        self.database.close()


ACTS = (
    *("choose", "other bytes", "start", "sent", "sent", "refused", "accepted", "postpone"),
    *("give up", "look", "ask", "answer", "follow", "follow", "retry"),
    *("send", "conclude") * 4,
)


@settings(max_examples=80, deadline=None, derandomize=True)
@given(acts=st.lists(st.tuples(st.sampled_from(ACTS), st.integers(0, 99)), max_size=40))
def test_no_sequence_of_acts_makes_a_forward_lie(acts: list[tuple[str, int]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        story = Story(Path(folder))
        for what, which in [("send", 0), *acts]:
            story.act(what, which)
            story.check()
        story.close()
