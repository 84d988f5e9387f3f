"""Plays a transfer to a judge, and to a fixed timer, on a simulated clock."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from dicom_node.assemble.completeness import judge
from dicom_node.assemble.evidence import Evidence, SeriesEvidence, is_image
from dicom_node.assemble.pace import longest_silences, pace_of, slowest
from dicom_node.assemble.series import SeriesHeaders
from dicom_node.config.settings import AssembleSettings
from dicom_node.ledger.arriving import Carrier, StudyEvidence
from dicom_node.ledger.associations import AssociationEnd
from dicom_node.model import (
    AnnouncedInstance,
    Announcement,
    AnnouncementKind,
    AnnouncementStatus,
    Attributes,
)
from dicom_node.verdict import Certainty, CountState, SenderCount, Silences
from tests.corpus.language import CLASSES, Moment, Name, Transfer

STUDY = "1.2.3"
START = 1_000_000.0
"""The clock's time when a transfer begins."""
POLICY = AssembleSettings()
ENDS = {
    "releases": AssociationEnd.RELEASED,
    "aborts": AssociationEnd.ABORTED,
    "is lost": AssociationEnd.LOST,
}


@dataclass(frozen=True)
class Act:
    """The study was acted upon."""

    at: float
    """Seconds after the begin."""
    certainty: Certainty | None
    """None for a timer, which has no opinion."""
    was_whole: bool
    """Whether the last instance of the set had come."""


def series_uid(name: str) -> str:
    return f"{STUDY}.{1 + sorted(CLASSES).index('CT') + sum(map(ord, name))}"


def instance_uid(name: Name) -> str:
    return f"{series_uid(name[0])}.{name[1]}"


def header(transfer: Transfer, name: Name, held: dict[str, set[str]]) -> Attributes:
    """Return the header of an instance that comes when so many of each series are here."""
    series, number = name
    count, kind = transfer.series[series]
    made: dict[str, tuple[str, ...]] = {"Modality": (kind,), "InstanceNumber": (str(number),)}
    if kind in ("CT", "MR") and transfer.has_layout != "none":
        place = (number - 1) // (count // 10) if transfer.has_layout == "phases" else number
        made["ImageOrientationPatient"] = ("1", "0", "0", "0", "1", "0")
        made["ImagePositionPatient"] = ("0", "0", str(2.5 * place))
    for of, said, where in transfer.headers:
        if of != series:
            continue
        total = sum(len(uids) for uids in held.values())
        here = {"series": len(held.get(series_uid(series), ())), "study": total}
        value = str(here[where] + 1) if said == "on" else said
        keyword = {
            "series": "NumberOfSeriesRelatedInstances",
            "study": "NumberOfStudyRelatedInstances",
            "acquisition": "ImagesInAcquisition",
        }[where]
        made[keyword] = (value,)
    return made


@dataclass
class World:
    """What the node has seen of a transfer up to now."""

    transfer: Transfer
    held: dict[str, set[str]] = field(default_factory=dict)
    classes: dict[str, str] = field(default_factory=dict)
    image_times: list[float] = field(default_factory=list)
    carriers: dict[str, Carrier] = field(default_factory=dict)
    opened: dict[str, tuple[str, float]] = field(default_factory=dict)
    announcements: dict[str, Announcement] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    count: SenderCount | None = None
    made: dict[str, dict[str, Attributes]] = field(default_factory=dict)
    headers: dict[str, SeriesHeaders] = field(default_factory=dict)
    last_new_at: float = 0.0
    revision: int = 1

    def take(self, moment: Moment) -> bool:
        """Let something happen; return whether an instance came that is new."""
        at = START + moment.at
        if moment.what == "opens":
            self.opened[moment.who] = (moment.of, at)
        elif moment.what in ENDS:
            if moment.who in self.carriers:
                ended = replace(self.carriers[moment.who], closed_at=at, end=ENDS[moment.what])
                self.carriers[moment.who] = ended
        elif moment.what == "refuses":
            self.refused.update({instance_uid(name): moment.who for name in moment.names})
        elif moment.what == "carries":
            return self._carry(moment.who, moment.names[0], at)
        elif moment.what in ("is asked", "answers", "does not answer"):
            self._ask(moment, at)
        else:
            self._announce(moment, at)
        return False

    def _carry(self, association: str, name: Name, at: float) -> bool:
        series, uid = series_uid(name[0]), instance_uid(name)
        title, opened_at = self.opened[association]
        before = self.carriers.get(association)
        known = frozenset[str]() if before is None else before.series
        self.carriers[association] = Carrier(
            association, title, opened_at, None, None, at, series, known | {series}
        )
        if uid in self.held.get(series, ()):
            return False
        self.made.setdefault(series, {})[uid] = header(self.transfer, name, self.held)
        self.headers.setdefault(series, SeriesHeaders()).update({uid: self.made[series][uid]})
        self.held.setdefault(series, set()).add(uid)
        self.classes[series] = CLASSES[self.transfer.series[name[0]][1]]
        if is_image(self.classes[series]):
            self.image_times.append(at)
        self.last_new_at = at
        return True

    def _ask(self, moment: Moment, at: float) -> None:
        if moment.what == "is asked":
            self.count = SenderCount(moment.who, CountState.PENDING, at)
        elif self.count is not None and moment.what == "answers":
            counts = {series_uid(name): count for name, count in moment.counts}
            self.count = replace(self.count, state=CountState.ANSWERED, instance_counts=counts)
        elif self.count is not None:
            self.count = replace(self.count, state=CountState.FAILED, reason="no answer")

    def _announce(self, moment: Moment, at: float) -> None:
        named = tuple(
            AnnouncedInstance(
                series_uid(s), instance_uid((s, n)), CLASSES[self.transfer.series[s][1]]
            )
            for s, n in moment.names
        )
        if moment.what in ("completes", "discontinues"):
            status = {"completes": "COMPLETED", "discontinues": "DISCONTINUED"}[moment.what]
            self.announcements[moment.who] = replace(
                self.announcements[moment.who],
                status=AnnouncementStatus(status),
                instances=named,
                ended_at=at,
                updated_at=at,
            )
            return
        kind = AnnouncementKind(moment.what)
        is_step = kind is AnnouncementKind.MPPS
        status_now = AnnouncementStatus.IN_PROGRESS if is_step else AnnouncementStatus.AVAILABLE
        uid = moment.who if is_step else f"{moment.who}-{at}"
        self.announcements[uid] = Announcement(
            uid, kind, moment.of, status_now, (STUDY,), named, at, None if is_step else at, at
        )

    def evidence(self) -> Evidence:
        carriers = tuple(self.carriers.values())
        held = frozenset().union(*self.held.values())
        refused = {u for u, who in self.refused.items() if who in self.carriers} - held
        titles = {carrier.calling_ae_title for carrier in carriers}
        past = [self.transfer.past.get(title, []) for title in sorted(titles)]
        return Evidence(
            study=StudyEvidence(
                STUDY,
                self.revision,
                len(held),
                self.last_new_at,
                carriers,
                refused=frozenset(refused),
            ),
            series=tuple(
                SeriesEvidence(
                    uid, frozenset(uids), is_image(self.classes[uid]), self.headers[uid].facts()
                )
                for uid, uids in sorted(self.held.items())
            ),
            announcements=tuple(self.announcements.values()),
            sender_count=self.count,
            pace=slowest([pace_of([Silences(s, 0.0) for s in one]) for one in past]),
            own=longest_silences(self.image_times, carriers, POLICY.longest_wait_s),
        )


def play(transfer: Transfer, policy: AssembleSettings = POLICY) -> list[Act]:
    """Have our judge watch a transfer, after everything that happens and when it asks to."""
    world, acts, is_open = World(transfer), list[Act](), False
    whole = {instance_uid(name) for name in transfer.whole}
    ends = [*[moment.at for moment in transfer.moments[1:]], None]
    for moment, next_at in zip(transfer.moments, ends, strict=True):
        if world.take(moment):
            if not is_open and acts:
                world.revision += 1
            is_open = True
        now = moment.at
        while is_open and now != next_at:
            verdict = judge(world.evidence(), policy, START + now)
            if verdict.action is not None:
                held = set().union(*world.held.values())
                acts.append(Act(now, verdict.certainty, held >= whole))
                is_open = False
                break
            ask_at = verdict.ask_again_at - START
            assert ask_at > now, f"{transfer.title} asks again at once"
            if next_at is not None and ask_at >= next_at:
                break
            now = ask_at
    return acts


def play_timer(transfer: Transfer, quiet_s: float) -> list[Act]:
    """Have a fixed timer watch a transfer: it acts when nothing came for so long."""
    acts: list[Act] = []
    held: set[Name] = set()
    is_open = False
    arrivals = transfer.arrivals
    nexts = [*[at for at, _ in arrivals[1:]], None]
    for (at, name), next_at in zip(arrivals, nexts, strict=True):
        is_open = is_open or name not in held
        held.add(name)
        if is_open and (next_at is None or next_at - at > quiet_s):
            acts.append(Act(at + quiet_s, None, held >= transfer.whole))
            is_open = False
    return acts
