"""Forwarding, as far as it needs no peer: what is noted when nothing can be sent."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from dicom_node.coerce.profile import BurnedIn, Deidentification, Profile
from dicom_node.deliver.originals import read_original
from dicom_node.errors import StorageError
from dicom_node.lifecycle import DeliveryState
from dicom_node.store.local import LocalStore
from tests.factories import make_instance
from tests.unit.deliver.forwarding import Forwarding
from tests.unit.ledger.rows import an_instance


@pytest.fixture
def nowhere(tmp_path: Path) -> Iterator[Forwarding]:
    """Return a forwarder whose destination is not configured."""
    forwarding = Forwarding(tmp_path)
    with capture_logs():
        yield forwarding
    forwarding.ledger.close()


REFUSES = Profile(
    "refuses", Deidentification(burned_in_annotation=BurnedIn.FORWARD_IF_DECLARED_ABSENT)
)


def test_with_nothing_due_nothing_is_done(nowhere: Forwarding) -> None:
    assert not nowhere.turn()
    nowhere.add_some(1)
    nowhere.choose()
    nowhere.clock.now -= 1
    assert not nowhere.turn()
    assert nowhere.task.attempt == 0


def test_a_destination_that_is_no_longer_configured_is_waited_for(nowhere: Forwarding) -> None:
    nowhere.add_some(1)
    nowhere.choose()
    assert not nowhere.turn()
    assert (nowhere.state(), nowhere.task.failures) == (DeliveryState.PENDING, 1)
    assert nowhere.task.not_before == 1010.0
    assert nowhere.task.reason == (
        "archive is no longer configured; add it to `peers:` again, "
        "or let the forwards go dead; next attempt after 10 s"
    )


def test_what_was_tried_for_too_long_is_dead_and_can_be_retried(nowhere: Forwarding) -> None:
    nowhere.add_some(1)
    nowhere.choose()
    for _ in range(9):
        assert nowhere.state() is DeliveryState.PENDING
        nowhere.turn()
        nowhere.wait_for_backoff()
    assert nowhere.state() is DeliveryState.DEAD
    assert nowhere.ledger.forwards.retry(nowhere.task.forward_id, nowhere.clock())
    nowhere.turn()
    assert (nowhere.state(), nowhere.task.failures) == (DeliveryState.PENDING, 1)


def test_an_error_of_ours_postpones_what_was_in_hand(nowhere: Forwarding) -> None:
    nowhere.add_some(1)
    nowhere.choose()
    nowhere.ledger.forwards.start(nowhere.task, nowhere.clock())
    nowhere.forwarder.broke("research", KeyError("Doe^Jane"))
    assert nowhere.state() is DeliveryState.SENDING
    nowhere.forwarder.broke("archive", KeyError("Doe^Jane"))
    assert nowhere.state() is DeliveryState.PENDING
    assert nowhere.task.reason == (
        "our own error: KeyError; see the node's log; next attempt after 10 s"
    )


@pytest.fixture
def unreached(tmp_path: Path, free_port: int) -> Iterator[Forwarding]:
    """Return a forwarder whose archive never comes into it."""
    forwarding = Forwarding(tmp_path, free_port, {"refuses": REFUSES})
    with capture_logs():
        yield forwarding
    forwarding.ledger.close()


def test_a_destination_that_is_down_opens_its_breaker_and_gets_no_forward(
    tmp_path: Path, free_port: int
) -> None:
    forwarding = Forwarding(tmp_path, free_port, breaker_failures=2)
    forwarding.add_some(1)
    forwarding.choose()
    with capture_logs():
        for _ in range(2):
            assert not forwarding.turn()
            forwarding.clock.now += 15
        assert forwarding.task.attempt == 2
        [breaker] = forwarding.ledger.breakers.all_open()
        assert breaker.destination == "archive"
        for _ in range(3):
            assert not forwarding.turn()  # a probe, or not even that
            forwarding.clock.now += 100
        assert (forwarding.task.attempt, forwarding.state()) == (2, DeliveryState.PENDING)
        # days later it is dead, though nobody has started it since
        forwarding.clock.now += 3600
        for _ in range(9):
            assert not forwarding.turn()
            forwarding.clock.now += 300
        assert (forwarding.task.attempt, forwarding.state()) == (2, DeliveryState.DEAD)
    forwarding.ledger.close()


def test_originals_keep_to_the_hours_and_the_limits_of_their_destination(
    tmp_path: Path, free_port: int
) -> None:
    peer = {"hours": ("12:00-13:00",), "instances_per_minute": 1}
    forwarding = Forwarding(tmp_path, free_port, peer=peer)
    forwarding.add_some(3)
    forwarding.choose()
    with capture_logs():
        assert not forwarding.turn()  # at a quarter past midnight
        assert forwarding.task.attempt == 0
        forwarding.clock.now += 12 * 3600
        forwarding.turn()
        assert forwarding.task.attempt == 1
        # three were let out at once: three minutes until the next may go
        forwarding.clock.now += 100
        forwarding.turn()
        assert forwarding.task.attempt == 1
        forwarding.clock.now += 100
        forwarding.turn()
        assert forwarding.task.attempt == 2
    forwarding.ledger.close()


def test_a_profile_that_is_gone_sends_nothing_and_waits(unreached: Forwarding) -> None:
    unreached.add_some(2)
    unreached.choose(profile="gone")
    unreached.run()
    assert (unreached.state(), unreached.progress) == (DeliveryState.PENDING, (0, 0, 2))
    assert "there is no profile gone any more" in unreached.task.reason


def test_what_a_profile_must_not_let_out_is_refused_with_its_reason(unreached: Forwarding) -> None:
    unreached.add_some(2)
    unreached.choose(profile="refuses")
    unreached.run()
    assert (unreached.state(), unreached.progress) == (DeliveryState.DEAD, (0, 2, 2))
    told = unreached.ledger.events.named("NOT_FORWARDED")
    assert all("(0028,0301)" in event.reason for event in told)
    assert len(told) == 2


def test_a_file_that_is_gone_is_refused_under_a_profile_too(unreached: Forwarding) -> None:
    unreached.add_some(1)
    unreached.choose(profile="refuses")
    unreached.store.path(unreached.instances[0].path).unlink()
    unreached.run()
    assert (unreached.state(), unreached.progress) == (DeliveryState.DEAD, (0, 1, 1))
    [told] = unreached.ledger.events.named("NOT_FORWARDED")
    assert "restore it from a backup of data_dir" in told.reason


def test_a_file_that_is_gone_or_broken_is_refused_and_says_what_to_do(
    unreached: Forwarding,
) -> None:
    unreached.add_some(2)
    unreached.choose()
    lost, broken = unreached.instances
    unreached.store.path(lost.path).unlink()
    unreached.store.path(broken.path).write_bytes(b"\0" * 200)
    unreached.run()
    assert (unreached.state(), unreached.progress) == (DeliveryState.DEAD, (0, 2, 2))
    told = unreached.ledger.events.named("NOT_FORWARDED")
    assert all("restore it from a backup of data_dir" in event.reason for event in told)


def test_an_instance_that_came_again_with_other_bytes_is_left_to_the_rules(
    unreached: Forwarding,
) -> None:
    unreached.add_some(1)
    changed = an_instance(
        sop_instance_uid=unreached.instances[0].sop_instance_uid, digest="of other bytes"
    )
    unreached.choose([changed])
    unreached.run()
    assert unreached.progress == (0, 1, 1)
    [told] = unreached.ledger.events.named("NOT_FORWARDED")
    assert "came again with other bytes" in told.reason


# ---------------------------------------------------------------- the bytes


def test_an_original_is_the_data_set_as_it_lies_in_the_file(tmp_path: Path) -> None:
    dataset = make_instance()
    forwarding = Forwarding(tmp_path)
    instance = forwarding.add(dataset)
    original = read_original(forwarding.store, instance)
    whole = forwarding.store.path(instance.path).read_bytes()
    assert whole.endswith(original.content.read())
    assert (
        original.content.read()[:4] == b"\x08\x00\x05\x00"
    )  # (0008,0005), the first behind the meta
    assert original.context == (dataset.SOPClassUID, dataset.file_meta.TransferSyntaxUID)
    forwarding.ledger.close()


@pytest.mark.parametrize("content", [b"", b"\0" * 128 + b"DICM", b"\0" * 300, None])
def test_a_file_that_is_none_of_ours_is_no_original(content: bytes | None, tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    if content is not None:
        store.path("instances").mkdir(parents=True)
        store.path("instances/1.dcm").write_bytes(content)
    with pytest.raises(StorageError) as caught:
        read_original(store, an_instance(path="instances/1.dcm"))
    assert caught.value.hint == "restore it from a backup of data_dir, then retry the forward"
