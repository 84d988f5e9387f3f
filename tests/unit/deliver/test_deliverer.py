"""The deliver stage, as far as it needs no peer: what is noted when it cannot even begin."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from dicom_node.config.settings import Config, DeliverSettings
from dicom_node.deliver.deliverer import Deliverer
from dicom_node.ledger.ledger import Ledger
from dicom_node.lifecycle import DeliveryState
from dicom_node.store.local import LocalStore
from tests.unit.deliver.delivering import deliverer_of
from tests.unit.ledger import rows
from tests.unit.ledger.rows import HandClock, a_job, a_result, delivery_of, finished, sending

CONFIG = Config(
    deliver=DeliverSettings(retry_first_s=10, retry_longest_s=60, give_up_after_h=1, jitter=0),
)
"""Without any destination: whatever a job names is no longer configured."""


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    ledger = rows.new_ledger(tmp_path)
    yield ledger
    ledger.close()


@pytest.fixture
def clock() -> HandClock:
    return HandClock(1000.0)


@pytest.fixture
def deliverer(ledger: Ledger, clock: HandClock, tmp_path: Path) -> Deliverer:
    return deliverer_of(CONFIG, ledger, LocalStore(tmp_path / "data"), clock)


def test_with_nothing_due_nothing_is_done(deliverer: Deliverer, ledger: Ledger) -> None:
    deliverer.turn("archive")
    finished(ledger, now=1001.0)  # due in a second
    deliverer.turn("archive")
    assert delivery_of(ledger).attempt == 0


def test_a_destination_that_is_no_longer_configured_is_waited_for(
    deliverer: Deliverer, ledger: Ledger
) -> None:
    finished(ledger, now=900.0)
    deliverer.turn("archive")
    delivery = delivery_of(ledger)
    assert (delivery.state, delivery.failures) == (DeliveryState.PENDING, 1)
    assert delivery.not_before == 1010.0
    assert delivery.reason == (
        "archive is no longer configured; add it to `peers:` again, "
        "or let the deliveries go dead; next attempt after 10 s"
    )


def test_the_wait_doubles_up_to_the_longest_and_ends_in_a_dead_letter(
    deliverer: Deliverer, ledger: Ledger, clock: HandClock
) -> None:
    finished(ledger, now=1000.0)
    waits_s = []
    while delivery_of(ledger).state is DeliveryState.PENDING:
        clock.now = delivery_of(ledger).not_before
        deliverer.turn("archive")
        waits_s.append(delivery_of(ledger).not_before - clock.now)
    assert waits_s[:5] == [10, 20, 40, 60, 60]
    delivery = delivery_of(ledger)
    assert delivery.state is DeliveryState.DEAD
    assert 3600 < clock.now - delivery.tried_since <= 3660
    assert delivery.reason == (
        "archive is no longer configured; add it to `peers:` again, or let the deliveries go dead"
    )


def test_a_retry_begins_to_count_anew(
    deliverer: Deliverer, ledger: Ledger, clock: HandClock
) -> None:
    finished(ledger, now=1000.0)
    for clock.now in range(2_000, 11_000, 1_000):
        deliverer.turn("archive")
    assert delivery_of(ledger).state is DeliveryState.DEAD
    ledger.deliveries.retry(1, clock.now)
    deliverer.turn("archive")
    delivery = delivery_of(ledger)
    assert (delivery.state, delivery.not_before) == (DeliveryState.PENDING, 10_010.0)


def test_an_error_of_ours_postpones_what_was_in_hand_and_nothing_else(
    deliverer: Deliverer, ledger: Ledger
) -> None:
    finished(ledger, a_result(1), a_result(2), job=a_job(destinations=("archive", "research")))
    in_hand = sending(ledger, destination="archive")[0]
    of_another = sending(ledger, destination="research")[0]
    deliverer.broke("archive", KeyError("Doe^Jane"))
    postponed = delivery_of(ledger, in_hand.delivery.delivery_id)
    assert postponed.state is DeliveryState.PENDING
    assert postponed.reason == (
        "our own error: KeyError; see the node's log; next attempt after 10 s"
    )
    other = delivery_of(ledger, of_another.delivery.delivery_id)
    assert other.state is DeliveryState.SENDING
