"""Which of the workers gets a job."""

from __future__ import annotations

import pytest

from dicom_node.engine_workers import Place, choose, names_of


class AWorker:
    """Stands for a worker process; only its place matters here."""


def places(*engines: str) -> list[Place]:
    """Return a place for each word: the engines that its worker has loaded, with spaces between."""
    return [Place(AWorker(), set(names.split())) for names in engines]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("loaded", "free", "avoid", "expected"),
    [
        (["", ""], [0, 1], None, 0),
        (["a b", "c"], [0, 1], None, 1),  # neither has it: the one with fewer engines
        (["a b engine", "c"], [0, 1], None, 0),  # loaded is loaded
        (["engine", "a"], [1], None, 1),  # the one that has it is busy: no waiting for it
        (["engine", "a"], [], None, None),
        (["engine", "a"], [0, 1], 0, 1),  # it failed there the last time
        (["engine", "a"], [0], 0, None),  # the other one will be free some time
        (["engine"], [0], 0, 0),  # there is no other one
    ],
)
def test_a_job_goes_to(
    loaded: list[str], free: list[int], avoid: int | None, expected: int | None
) -> None:
    there = places(*loaded)
    avoided = None if avoid is None else there[avoid]
    chosen = choose([there[index] for index in free], there, "engine", avoided)
    assert chosen is (None if expected is None else there[expected])


def test_where_it_failed_is_better_than_nowhere_while_the_others_are_started_again() -> None:
    bad, _being_started = places("engine", "")
    assert choose([bad], [bad], "engine", bad) is bad


@pytest.mark.parametrize(
    ("devices", "names"),
    [
        (("auto",), ["engine-worker"]),
        ((0,), ["engine-worker"]),
        (("cpu", "cpu"), ["engine-worker-1-cpu", "engine-worker-2-cpu"]),
        ((1, 0, "cpu"), ["engine-worker-1-gpu1", "engine-worker-2-gpu0", "engine-worker-3-cpu"]),
    ],
)
def test_each_device_has_a_worker_with_a_name_of_its_own(
    devices: tuple[str | int, ...], names: list[str]
) -> None:
    made = names_of(devices)  # type: ignore[arg-type]
    assert [name for name, _ in made] == names
    assert tuple(device for _, device in made) == devices
