"""Asking a sender by C-FIND how much it has of a study that is arriving.

Asked is who is configured to answer, once its associations have ended, and again if more came
since. Answers live in memory only: after a restart one asks again.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace

import structlog

from dicom_node.clock import Clock
from dicom_node.config.settings import Config
from dicom_node.errors import DeliveryError
from dicom_node.ledger.arriving import StudyEvidence
from dicom_node.scu.counting import count_at_sender
from dicom_node.scu.peers import address_of
from dicom_node.verdict import CountState, SenderCount

log = structlog.get_logger()

_AGAIN_AFTER_S = 60.0
_REMEMBERED = 1000


class SenderQuestions:
    """What senders said of studies, and whom to ask next.

    Parameters
    ----------
    submit : callable
        Has `ask` called for a Study Instance UID, on another thread.
    """

    def __init__(self, config: Config, clock: Clock, submit: Callable[[str], object]) -> None:
        self._addresses = {
            peer.ae_title: address_of(peer, config)
            for peer in config.called.values()
            if peer.answers_find
        }
        self._clock = clock
        self._submit = submit
        self._counts: dict[str, SenderCount] = {}
        self._lock = threading.Lock()

    def about(self, study: StudyEvidence) -> SenderCount | None:
        """Return what the sender of a study said last; ask it if it is time to."""
        uid = study.study_instance_uid
        with self._lock:
            count = self._counts.get(uid)
            if self._is_time(study, count):
                count = self._question(study)
                if count is not None:
                    self._counts[uid] = count
                    while len(self._counts) > _REMEMBERED:
                        del self._counts[next(iter(self._counts))]
                    self._submit(uid)
        return count

    def ask(self, study_instance_uid: str) -> None:
        """Ask the question that is pending about a study, and remember the answer."""
        with self._lock:
            question = self._counts.get(study_instance_uid)
        if question is None or question.state is not CountState.PENDING:
            return
        try:
            found = count_at_sender(self._addresses[question.ae_title], study_instance_uid)
        except DeliveryError as error:
            answer = replace(question, state=CountState.FAILED, reason=error.message)
            log.warning(
                "sender_not_asked",
                study_instance_uid=study_instance_uid,
                ae_title=question.ae_title,
                reason=error.message,
            )
        else:
            counts = {series.series_instance_uid: series.instance_count for series in found.series}
            answer = replace(question, state=CountState.ANSWERED, instance_counts=counts)
        with self._lock:
            self._counts[study_instance_uid] = answer

    def _is_time(self, study: StudyEvidence, count: SenderCount | None) -> bool:
        if not self._addresses or study.open_associations:
            return False
        if count is None:
            return True
        if count.state is not CountState.ANSWERED:  # whoever was to ask may have broken down
            return self._clock() - count.asked_at > _AGAIN_AFTER_S
        return count.asked_at <= study.last_instance_at or (
            sum(count.instance_counts.values()) > study.instance_count
            and self._clock() - count.asked_at > _AGAIN_AFTER_S
        )

    def _question(self, study: StudyEvidence) -> SenderCount | None:
        """Return the question to whoever sent last, of those that answer."""
        carriers = sorted(study.carriers, key=lambda carrier: carrier.last_at, reverse=True)
        for carrier in carriers:
            if carrier.calling_ae_title in self._addresses:
                return SenderCount(carrier.calling_ae_title, CountState.PENDING, self._clock())
        return None
