"""Plays a transfer to the assembler on a real ledger, with a clock that stands still."""

from __future__ import annotations

from dataclasses import replace

from dicom_node.assemble.assembler import Assembler
from dicom_node.ledger.ledger import Ledger
from dicom_node.ledger.paces import Lesson, learn
from dicom_node.model import AnnouncementStatus, Attributes
from dicom_node.verdict import Certainty, SenderCount, Silences
from tests.corpus.language import CLASSES, Moment, Transfer
from tests.corpus.player import ENDS, POLICY, START, World, instance_uid, series_uid
from tests.unit.ledger import rows
from tests.unit.ledger.rows import HandClock

Ending = tuple[Certainty, bool]
"""The verdict that was acted upon, and whether the set was whole."""


def on_ledger(ledger: Ledger, transfer: Transfer, number: int) -> list[Ending]:
    """Return each verdict that was acted upon, and whether all of the set was here then."""
    return _Run(ledger, transfer, f"1.9.{number}").run()


class _Run:
    """One transfer, as a study of its own and with scanners of its own."""

    def __init__(self, ledger: Ledger, transfer: Transfer, study: str) -> None:
        self._ledger = ledger
        self._transfer = transfer
        self._study = study
        self._world = World(transfer)
        self._clock = HandClock()
        self._endings: list[Ending] = []
        self._assembler = Assembler(
            ledger,
            POLICY,
            self._clock,
            headers=lambda _: self._headers(),
            sender_counts=lambda _: self._sender_count(),
        )

    def run(self) -> list[Ending]:
        self._learn_the_past()
        moments = self._transfer.moments
        for moment, after in zip(moments, [*moments[1:], None], strict=True):
            self._world.take(moment)
            self._take(moment)
            self._clock.now = START + moment.at
            end = None if after is None else START + after.at
            while (ask_at := self._turn()) is not None and (end is None or ask_at < end):
                assert ask_at > self._clock.now
                self._clock.now = ask_at
        return self._endings

    def _turn(self) -> float | None:
        before = self._ledger.verdicts.of_study(self._study)
        ask_at = self._assembler.turn()
        kept = self._ledger.verdicts.of_study(self._study)
        here = len(self._ledger.studies.arrived(self._study))
        self._endings += [
            (verdict.certainty, here == len(self._transfer.whole))
            for verdict in kept[len(before) :]
            if not verdict.series_instance_uid
        ]
        return ask_at

    def _learn_the_past(self) -> None:
        modality = next(iter(self._transfer.series.values()))[1]
        for name, past in self._transfer.past.items():
            for number, silence_s in enumerate(past):
                lesson = Lesson(self._title(name), modality, Silences(silence_s))
                with self._ledger._database.writing() as connection:
                    learn(self._ledger._database, connection, f"1.8.{number}", lesson, 0.0)

    def _uid(self, uid: str) -> str:
        return f"{self._study}.{uid}"

    def _title(self, name: str) -> str:
        return f"{name}-{self._study[4:]}"

    def _take(self, moment: Moment) -> None:
        at, association = START + moment.at, f"{self._study}-{moment.who}"
        if moment.what == "opens":
            title = self._title(moment.of)
            self._ledger.associations.opened(association, title, "DICOM_NODE", "", at)
        elif moment.what in ENDS:
            self._ledger.associations.closed(association, ENDS[moment.what], at)
        elif moment.what == "refuses":
            for name in moment.names:
                uid = self._uid(instance_uid(name))
                self._ledger.events.record(
                    at, ("association", association), "INSTANCE_REFUSED", uid
                )
        elif moment.what == "carries":
            [name] = moment.names
            self._ledger.studies.instance_stored(
                rows.an_instance(
                    sop_instance_uid=self._uid(instance_uid(name)),
                    sop_class_uid=CLASSES[self._transfer.series[name[0]][1]],
                    series_instance_uid=self._uid(series_uid(name[0])),
                    study_instance_uid=self._study,
                    association_id=association,
                    received_at=at,
                )
            )
        else:
            self._announce(at)

    def _announce(self, at: float) -> None:
        for announced in self._world.announcements.values():
            mine = replace(
                announced,
                source_uid=self._uid(announced.source_uid),
                study_instance_uids=(self._study,),
                instances=tuple(
                    replace(
                        one,
                        series_instance_uid=self._uid(one.series_instance_uid),
                        sop_instance_uid=self._uid(one.sop_instance_uid),
                    )
                    for one in announced.instances
                ),
            )
            if not self._ledger.evidence.announce(mine):
                ended = announced.status is not AnnouncementStatus.IN_PROGRESS
                self._ledger.evidence.update_step(
                    mine.source_uid, mine.status if ended else None, mine.instances, at
                )

    def _headers(self) -> dict[str, dict[str, Attributes]]:
        return {
            self._uid(series): {self._uid(uid): made for uid, made in headers.items()}
            for series, headers in self._world.made.items()
        }

    def _sender_count(self) -> SenderCount | None:
        count = self._world.count
        if count is None:
            return None
        counts = {self._uid(series): number for series, number in count.instance_counts.items()}
        return replace(count, instance_counts=counts)
