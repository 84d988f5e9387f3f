"""What follows from what a destination said of a result, or did not say."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from dicom_node.claims import Claim
from dicom_node.config.settings import DeliverSettings, Peer
from dicom_node.deliver.proof import (
    Ask,
    Conclude,
    Later,
    Method,
    Step,
    after_look,
    answer_wait_s,
    next_step,
    wants_content,
)
from dicom_node.lifecycle import DeliveryEvent, DeliveryState
from tests.unit.ledger.rows import a_result

SENT_AT = 1000.0
SETTINGS = DeliverSettings(proof_wait_s=600, prove_within_h=24, resends_max=2)
SENT = Claim(
    number=1,
    attempt=1,
    destination="archive",
    sent=a_result(),
    state=DeliveryState.SENT,
    failures=0,
    reason="stored",
    sent_at=SENT_AT,
    resends=0,
    transaction_uid="",
    committed=None,
)
COMMITMENT, READ_BACK = Ask(Method.COMMITMENT), Ask(Method.READ_BACK)


def a_peer(**changes: Any) -> Peer:
    return Peer(ae_title="ARCHIVE", **changes)


def step_of(
    claim: Claim = SENT,
    *refused: Method,
    peer: Peer | None = None,
    now: float = SENT_AT + 1,
) -> Step:
    return next_step(claim, peer or a_peer(), refused, SETTINGS, now)


def event_of(step: Step) -> DeliveryEvent:
    assert isinstance(step, Conclude)
    return step.event


def test_commitment_is_asked_for_first_and_read_back_where_it_is_not_offered() -> None:
    assert step_of() == COMMITMENT
    assert step_of(SENT, Method.COMMITMENT) == READ_BACK


def test_a_commitment_that_was_waited_for_in_vain_is_followed_by_read_back() -> None:
    asked = replace(SENT, transaction_uid="2.25.1")
    assert step_of(asked) == READ_BACK
    assert step_of(asked, Method.READ_BACK) == COMMITMENT


def test_where_nothing_is_offered_it_is_unproven_at_once_with_the_last_words() -> None:
    refused = replace(SENT, reason="ARCHIVE accepts no C-FIND")
    step = step_of(refused, Method.COMMITMENT, Method.READ_BACK)
    assert event_of(step) is DeliveryEvent.UNPROVEN
    assert isinstance(step, Conclude)
    assert "ARCHIVE accepts no C-FIND" in step.reason


def test_a_policy_asks_by_its_own_method_alone() -> None:
    assert step_of(peer=a_peer(proof="commitment")) == COMMITMENT
    asked = replace(SENT, transaction_uid="2.25.1")
    assert step_of(asked, peer=a_peer(proof="commitment")) == COMMITMENT
    assert step_of(asked, peer=a_peer(proof="read-back")) == READ_BACK


def test_a_policy_whose_method_is_not_offered_waits_for_hours_until_somebody_mends_it() -> None:
    step = step_of(SENT, Method.COMMITMENT, peer=a_peer(proof="commitment"))
    assert isinstance(step, Later)
    assert step.wait_s == 4 * 3600


def test_who_asks_for_no_proof_gets_none() -> None:
    assert event_of(step_of(peer=a_peer(proof="status"))) is DeliveryEvent.UNPROVEN


@pytest.mark.parametrize("proof", ["auto", "commitment", "read-back"])
def test_what_is_not_proven_in_its_time_is_unproven(proof: str) -> None:
    peer, day_s = a_peer(proof=proof), 24 * 3600
    assert not isinstance(step_of(peer=peer, now=SENT_AT + day_s), Conclude)
    step = step_of(peer=peer, now=SENT_AT + day_s + 1)
    assert event_of(step) is DeliveryEvent.UNPROVEN


@pytest.mark.parametrize(
    ("answer", "resends", "event"),
    [
        (0, 0, DeliveryEvent.PROVEN),
        (0x0112, 0, DeliveryEvent.MISSED),
        (0x0112, 1, DeliveryEvent.MISSED),
        (0x0112, 2, DeliveryEvent.GIVEN_UP),
        (0xA700, 0, DeliveryEvent.MISSED),
        (0x0119, 0, DeliveryEvent.GIVEN_UP),
    ],
)
def test_an_answer_settles_it_whenever_it_comes(
    answer: int, resends: int, event: DeliveryEvent
) -> None:
    answered = replace(SENT, committed=answer, resends=resends, transaction_uid="2.25.1")
    assert event_of(step_of(answered, now=SENT_AT + 1e6)) is event


@pytest.mark.parametrize(
    ("found", "is_same", "after_s", "event"),
    [
        (True, None, 1, DeliveryEvent.PROVEN),
        (True, True, 1, DeliveryEvent.PROVEN),
        (True, False, 1, DeliveryEvent.MISSED),
        (False, None, 599, None),
        (False, None, 600, DeliveryEvent.MISSED),
    ],
)
def test_what_the_archive_shows_settles_it_and_it_may_take_its_time_to_show_it(
    found: bool, is_same: bool | None, after_s: float, event: DeliveryEvent | None
) -> None:
    step = after_look(SENT, found, is_same, SETTINGS, SENT_AT + after_s)
    if event is None:
        assert isinstance(step, Later)
    else:
        assert event_of(step) is event


def test_one_that_answers_nothing_is_asked_less_and_less_often_and_never_past_the_end() -> None:
    waits_s = [answer_wait_s(SENT, SETTINGS, SENT_AT + at) for at in (0, 600, 1200, 9000)]
    assert waits_s == [600, 600, 1200, 9000]
    assert answer_wait_s(SENT, SETTINGS, SENT_AT + 40_000) == 6 * 3600
    assert answer_wait_s(SENT, SETTINGS, SENT_AT + 86_000) == 401


def test_a_share_of_the_results_is_compared_by_content_always_the_same_ones() -> None:
    peer = a_peer(read_back="content", read_back_share=0.25)
    claims = [replace(SENT, sent=a_result(n)) for n in range(400)]
    chosen = [one for one in claims if wants_content(one, peer)]
    assert 70 < len(chosen) < 130
    assert chosen == [one for one in claims if wants_content(one, peer)]
    assert not any(wants_content(one, a_peer()) for one in claims)
    assert all(wants_content(one, a_peer(read_back="content")) for one in claims)
