"""The power goes, the process dies or the disk fails, at every operation of the receive log.

Nothing that was acknowledged is lost, and nothing torn is taken for whole.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fault.log_run import Diary, Run, empty_ledger, part10_of
from tests.unit.store.log_disks import (
    Failure,
    Killed,
    Kind,
    Luck,
    Platter,
    best,
    broken,
    by_chance,
    full,
    worst,
)

MOST = "most of it is there"
LUCKS: dict[str, Callable[[int], Luck]] = {
    "nothing that is uncertain is there": lambda n: worst,
    "all that is uncertain is there": lambda n: best,
    "half of it is there": lambda n: by_chance(n, 0.5),
    MOST: lambda n: by_chance(n, 0.95),
}
NEEDS_NO_ROOM = {Kind.OPEN, Kind.SYNC, Kind.SYNC_FOLDER, Kind.CUT, Kind.CLOSE}
FIRST = range(1, 10)
REFUSED = (10, 11)
LARGE = (13, 18)
ALL = range(1, 19)
KEPT = {number: part10_of(number) for number in ALL}


class Played:
    """All that can become of a log, from begin to end, on a disk that fails at one operation.

    A process that is killed there is started again, and goes on with the next step.
    """

    def __init__(self, folder: Path, fail_at: int = 0, failure: Failure = broken) -> None:
        self._root = folder / "data"
        self._root.mkdir(parents=True)
        self._ledger_file = folder / "ledger.sqlite"
        self._ledger_file.write_bytes(empty_ledger())
        self.platter = Platter(self._root, fail_at, failure)
        self.diary = Diary()
        self._run = self._started()
        for step in STEPS:
            try:
                step(self)
            except Killed:
                self._run.die()
                self._run = self._started()
        self.kept = self._run.kept()
        self._run.die()

    def __len__(self) -> int:
        return len(self.platter)

    def store(self, *numbers: int) -> None:
        self._run.store(*numbers)

    def store_large(self, number: int) -> None:
        self._run.store_large(number)

    def store_the_rest(self) -> None:
        """Send again what was answered with an error, or not at all."""
        for number in sorted(KEPT.keys() - self.diary.acknowledged_before(len(self) + 1)):
            if number in LARGE:
                self._run.store_large(number)
            else:
                self._run.store(number)

    def fill_up(self) -> None:
        self._run.fill_up()

    def advance(self) -> None:
        self._run.advance()

    def fail_next_write(self) -> None:
        self.platter.fail_next(Kind.WRITE_SYNCED)

    def start_again(self) -> None:
        self._run.close()
        self._run = self._started()

    def _started(self) -> Run:
        return Run.started(self._root, self._ledger_file, self.platter, self.diary)


STEPS: tuple[Callable[[Played], object], ...] = (
    Played.fill_up,
    lambda played: played.store(1, 2),
    lambda played: played.store(3),
    Played.advance,
    lambda played: played.store(*FIRST[3:]),  # the segment ends among them
    Played.fill_up,
    Played.fail_next_write,
    lambda played: played.store(*REFUSED),
    lambda played: played.store(12),
    lambda played: played.store_large(LARGE[0]),
    Played.advance,
    lambda played: played.store(*REFUSED),
    lambda played: played.store(*FIRST),  # they are known: some segment holds nothing else
    lambda played: played.store_large(LARGE[1]),  # but this, of which only the row stands there
    lambda played: played.store(*FIRST),
    lambda played: played.store(*FIRST),
    Played.advance,  # those that hold nothing new are released
    lambda played: played.store(14, 15),
    Played.start_again,
    lambda played: played.store(16, 17),  # and used again
    Played.store_the_rest,
    Played.store_the_rest,
    Played.advance,
)


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Played:
    """Return what is played where only that fails which is to fail."""
    return Played(tmp_path_factory.mktemp("played"))


def test_all_that_can_become_of_a_log_is_played(played: Played) -> None:
    assert played.kept == KEPT
    assert played.diary.refused == list(REFUSED)
    written, released, used_again = set[int](), set[int](), False
    for operation in played.platter.operations:
        if operation.kind is Kind.WRITE_SYNCED:
            written.add(operation.file)
            used_again |= operation.file in released
        elif re.fullmatch(r"free-\d{1,9}\.segment", operation.path.name):
            released.add(operation.file)
    assert len(written) >= 4
    assert used_again


@pytest.mark.parametrize("luck", LUCKS)
def test_a_power_cut_at_any_operation_loses_nothing_that_was_acknowledged(
    luck: str, played: Played, tmp_path: Path
) -> None:
    """The ledger is as far as its last commit; or it is lost, and made anew from the log."""
    looked_at: dict[tuple[object, ...], set[int]] = {}
    for n in range(1, len(played) + 2):
        found = played.platter.after_cut(n, LUCKS[luck](n))
        for ledger in (None, played.diary.ledger_before(n)):
            key = (frozenset(found.items()), ledger)
            if key not in looked_at:
                looked_at[key] = recovered(found, ledger, tmp_path / f"{n}-{len(looked_at)}")
            assert played.diary.acknowledged_before(n) <= looked_at[key], f"operation {n}"


def test_a_second_power_cut_during_the_recovery_loses_nothing_either(
    played: Played, tmp_path: Path
) -> None:
    for n in range(1, len(played) + 2, 2):
        found = played.platter.after_cut(n, LUCKS[MOST](n))
        earlier = played.diary.ledger_before(n)
        root, ledger_file = laid_down(found, earlier, tmp_path / str(n))
        platter = Platter(root)
        run = Run.started(root, ledger_file, platter)
        run.fill_up()
        run.store(97)
        run.close()
        m = 5 * n % len(platter) + 1
        acknowledged = played.diary.acknowledged_before(n) | run.diary.acknowledged_before(m)
        for ledger in (None, run.diary.ledger_before(m) or earlier):
            found = platter.after_cut(m, LUCKS[MOST](m))
            kept = recovered(found, ledger, tmp_path / f"{n}-{m}")
            assert acknowledged <= kept, f"operation {n}, and {m} of what followed"


@pytest.mark.parametrize("failure", [broken, full, Killed])
@pytest.mark.parametrize("rest", range(4))
def test_whichever_operation_fails_the_sender_knows_and_what_follows_is_kept(
    rest: int, failure: Failure, played: Played, tmp_path: Path
) -> None:
    """What was acknowledged before and after survives a power cut at the end, too."""
    for n in range(1 + rest, len(played) + 1, 4):
        if failure is full and played.platter.operations[n - 1].kind in NEEDS_NO_ROOM:
            continue
        failing = Played(tmp_path / str(n), n, failure)
        assert failing.platter.operations[n - 1].is_failed
        assert failing.kept == KEPT, f"operation {n}"
        found = failing.platter.after_cut(len(failing) + 1, worst)
        assert KEPT.keys() <= recovered(found, None, tmp_path / f"{n}-cut"), f"operation {n}"
        shutil.rmtree(tmp_path / str(n))


def recovered(found: dict[Path, bytes], ledger: bytes | None, folder: Path) -> set[int]:
    """Start on what is found, and go on; return which instances there are.

    Whatever there is is as it was sent, to the last byte.
    """
    root, ledger_file = laid_down(found, ledger, folder)
    run = Run.started(root, ledger_file)
    kept = run.kept()
    assert kept == {number: part10_of(number) for number in kept}
    run.store(98)
    run.close()
    run = Run.started(root, ledger_file)
    assert run.kept() == kept | {98: part10_of(98)}
    run.close()
    shutil.rmtree(folder)
    return set(kept)


def laid_down(found: dict[Path, bytes], ledger: bytes | None, folder: Path) -> tuple[Path, Path]:
    """Write what was found into a folder; return the store's root, and the ledger's file."""
    root, ledger_file = folder / "data", folder / "ledger.sqlite"
    root.mkdir(parents=True)
    for path, content in found.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(content)
    ledger_file.write_bytes(empty_ledger() if ledger is None else ledger)
    return root, ledger_file
