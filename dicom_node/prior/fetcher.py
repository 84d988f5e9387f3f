"""Fetching prior studies: asks an archive what it has of a patient, chooses, and has it sent.

What is here already is not asked for again; so after a crash, or when the archive has broken off,
the next attempt fetches what is missing. A study is noted as a prior before it is asked for: the
router has to know it even if we do not live to see it come.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime

import structlog

from dicom_node.backoff import delay_s
from dicom_node.clock import Checkpoint, Clock, pass_checkpoint
from dicom_node.config.settings import Config
from dicom_node.errors import (
    DicomNodeError,
    PeerUnreachable,
    PriorsIncomplete,
    StorageError,
)
from dicom_node.ledger.ledger import Ledger
from dicom_node.lifecycle import FetchState
from dicom_node.prior.current import read_current
from dicom_node.prior.filing import Filing
from dicom_node.priors import FetchedPrior, PriorFetch
from dicom_node.scu.address import Address
from dicom_node.scu.counting import count_at_sender
from dicom_node.scu.found import FoundStudy
from dicom_node.scu.operation import CANCELLED
from dicom_node.scu.peers import address_of
from dicom_node.scu.prior_choice import PriorChoice, choose_priors, study_date_range
from dicom_node.scu.priors import find_priors
from dicom_node.scu.retrieve import RetrieveOutcome, get, move
from dicom_node.store.local import LocalStore

log = structlog.get_logger()

_LOOK_EVERY_S = 0.05
_LOOKS_MAX = 200
"""An instance is in the ledger a tenth of a second after its answer; ten are a node in trouble."""
_ATTEMPTS_AIMED_AT = 10


class PriorFetcher:
    """Moves fetches from PENDING to FETCHED, or to DEAD.

    Parameters
    ----------
    stopped : callable
        Waits for so many seconds; returns at once, and True, when the node stops.
    """

    def __init__(
        self,
        config: Config,
        ledger: Ledger,
        store: LocalStore,
        clock: Clock,
        stopped: Callable[[float], bool],
        checkpoint: Checkpoint = pass_checkpoint,
    ) -> None:
        self._config = config
        self._ledger = ledger
        self._store = store
        self._clock = clock
        self._stopped = stopped
        self._checkpoint = checkpoint
        self._addresses = {name: address_of(peer, config) for name, peer in config.called.items()}

    def turn(self, source: str) -> None:
        """Fetch what jobs wait for from `source`, one after the other, until nothing is due."""
        while not self._stopped(0):
            now = self._clock()
            ready = self._ledger.fetches.ready(source, now)
            if ready is None:
                return
            fetch = self._ledger.fetches.start(ready, now)
            if fetch is None:
                continue
            try:
                self._attempt(fetch)
            except PeerUnreachable as error:
                self._failed(fetch, error)
                return
            except DicomNodeError as error:
                self._failed(fetch, error)

    def broke(self, source: str, error: Exception) -> None:
        """Postpone what was in hand for `source` when a turn ended by an error of ours."""
        own = PeerUnreachable(f"our own error: {type(error).__name__}", hint="see the node's log")
        for fetch in self._ledger.fetches.in_states(FetchState.FETCHING):
            if fetch.source == source:
                self._failed(fetch, own)

    def _attempt(self, fetch: PriorFetch) -> None:
        address = self._addresses.get(fetch.source)
        if address is None:
            raise PeerUnreachable(
                f"{fetch.source} is no longer configured", hint="add it to `peers:` again"
            )
        uid = fetch.study_instance_uid
        current = read_current(self._ledger, self._store, uid, fetch.series_instance_uid)
        choices = self._choices(fetch, address, current)
        chosen = [choice.study for choice in choices if choice.is_chosen]
        if not all(self._has(fetch, address, study) for study in chosen):
            return
        self._checkpoint("prior.came")
        reason = _in_words(choices) if current.patient_id else "the study has no Patient ID"
        if self._ledger.fetches.fetched(fetch, reason, self._clock()):
            log.info(
                "priors_fetched",
                study_instance_uid=uid,
                source=fetch.source,
                priors=[study.study_instance_uid for study in chosen],
            )

    def _choices(
        self, fetch: PriorFetch, address: Address, current: FoundStudy
    ) -> list[PriorChoice]:
        today = datetime.fromtimestamp(self._clock(), UTC).astimezone().date()
        found = find_priors(
            address,
            current.patient_id,
            current.issuer_of_patient_id,
            study_date=study_date_range(current, fetch.wanted, today),
        )
        return choose_priors(found, current, fetch.wanted, today)

    def _has(self, fetch: PriorFetch, address: Address, study: FoundStudy) -> bool:
        """Make sure that all of a prior study is here; False if it is not wanted any more."""
        uid = study.study_instance_uid
        held = self._ledger.studies.instance_count(uid)
        expected = study.instance_count or 0
        if not expected or 0 < held < expected:  # it tells no count, or one that may be wrong
            expected = count_at_sender(address, uid).instance_count
        is_whole = 0 < expected <= held
        now = self._clock()
        prior = FetchedPrior(
            study_instance_uid=uid,
            calling_ae_title=address.called_ae_title,
            was_held=is_whole,
            instance_count=expected,
            failed=0,
            is_whole=is_whole,
            asked_at=now,
            ended_at=now if is_whole else None,
        )
        if not self._ledger.fetches.note(fetch, prior):
            return False
        if is_whole:
            return True
        self._checkpoint("prior.asking")
        outcome = self._retrieve(fetch, address, uid)
        self._checkpoint("prior.sent")
        if outcome.status == CANCELLED and self._is_over(fetch):
            self._ledger.fetches.interrupt(fetch, "it was broken off", self._clock())
            return False
        held = self._held(uid, expected if outcome.is_whole else 0)
        if held < expected and not outcome.failed:
            expected = count_at_sender(address, uid).instance_count
        ended = replace(
            prior,
            instance_count=expected,
            failed=outcome.failed,
            is_whole=0 < expected <= held,
            ended_at=self._clock(),
        )
        noted = self._ledger.fetches.note(fetch, ended)
        if not ended.is_whole:
            raise PriorsIncomplete(
                f"{held} of {expected} instances of the prior study {uid} are here, "
                f"{outcome.failed} failed",
                hint=f"look into the log of {fetch.source}, and at `status --refused`",
            )
        return noted

    def _retrieve(self, fetch: PriorFetch, address: Address, uid: str) -> RetrieveOutcome:
        def is_over() -> bool:
            return self._is_over(fetch)

        if self._config.peers[fetch.source].retrieve == "move":
            return move(address, uid, self._config.node.ae_title, cancelled=is_over)
        with Filing(self._config, self._ledger, self._store, self._clock, address, uid) as filing:
            return get(address, uid, filing.take, cancelled=is_over)

    def _held(self, uid: str, awaited: int) -> int:
        """Return how many instances of a study are in the ledger, once it has caught up."""
        held = self._ledger.studies.instance_count(uid)
        for _ in range(_LOOKS_MAX):
            if held >= awaited or self._stopped(_LOOK_EVERY_S):
                break
            held = self._ledger.studies.instance_count(uid)
        return held

    def _is_over(self, fetch: PriorFetch) -> bool:
        return self._stopped(0) or self._clock() >= fetch.give_up_at

    def _failed(self, fetch: PriorFetch, error: DicomNodeError) -> None:
        """Try again while the job waits; what no repetition mends is given up at once."""
        now, reason = self._clock(), error.in_words
        longest_s = min(
            self._config.deliver.retry_longest_s, fetch.wanted.wait_s / _ATTEMPTS_AIMED_AT
        )
        first_s = min(self._config.deliver.retry_first_s, longest_s)
        not_before = now + delay_s(fetch.failures + 1, first_s, longest_s)
        is_mended_by_time = error.retryable or isinstance(error, StorageError)
        if is_mended_by_time and not_before < fetch.give_up_at:
            self._ledger.fetches.postpone(fetch, reason, not_before, now)
            log.warning("priors_postponed", source=fetch.source, reason=reason)
        else:
            self._ledger.fetches.give_up(fetch, reason, now)
            log.error("priors_given_up", source=fetch.source, reason=reason)


def _in_words(choices: Sequence[PriorChoice]) -> str:
    """Return what was chosen, and how often what spoke against the others."""
    chosen = [choice.study for choice in choices if choice.is_chosen]
    named = [f"{study.study_instance_uid} of {study.study_date}" for study in chosen]
    against = Counter(choice.reason for choice in choices if not choice.is_chosen)
    said = [f"{reason} ({count})" for reason, count in against.items()]
    first = f"{len(chosen)} of {len(choices)} studies that were found: {', '.join(named) or 'none'}"
    return "; ".join([first, *said])
