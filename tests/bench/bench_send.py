"""The benchmark of sending: the node's C-STORE beside DCMTK's storescu, to the same receiver.

`python -m tests.bench.bench_send --help`; README.md beside this file says what is measured.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from tests.bench.association import HOST
from tests.bench.loads import load, write_files
from tests.bench.peers import Dropping
from tests.bench.report import number
from tests.bench.sending import Sending, bare, forward, send_files
from tests.conftest import find_program

_ROUNDS = 5
_MB = 1e6


@dataclass(frozen=True)
class Load:
    """What is sent: so many files of a load, over so many associations of ours."""

    name: str
    load: str
    files: int
    associations: int = 1
    rate_min: float | None = None
    """The goal: so many times the rate of storescu."""
    cpu_max: float | None = None
    """And so much of its CPU."""
    growth_mb_max: float | None = None
    """And so much memory more than before."""


LOADS = (
    Load("ct", "ct", 1000, rate_min=2.0, cpu_max=0.5, growth_mb_max=16),
    Load("ct-4", "ct", 1000, associations=4),
    Load("mr", "mr", 2000, rate_min=1.5),
    Load("large", "enhanced-ct", 1, rate_min=1.0, growth_mb_max=16),
)


@dataclass(frozen=True)
class Cost:
    """What one run took."""

    seconds: float
    cpu_s: float
    growth_mb: float = 0.0


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    storescu = find_program("storescu")
    if storescu is None:
        print("storescu is not installed", file=sys.stderr)
        return 2
    rounds = 1 if options.quick else options.rounds
    folder = Path(tempfile.mkdtemp(prefix="bench-send-", dir=options.work))
    spawn = multiprocessing.get_context("spawn")
    met = True
    try:
        with (
            Dropping(folder / "receiver") as receiver,
            ProcessPoolExecutor(1, mp_context=spawn) as ours,
        ):
            for one in LOADS:
                if options.only and one.name not in options.only:
                    continue
                bench = _Bench(one, folder / one.name, receiver.port, storescu, ours, options.quick)
                met &= bench.run(rounds)
                shutil.rmtree(folder / one.name)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return 0 if met or options.quick else 1


class _Bench:
    """One load, its files written."""

    def __init__(
        self,
        what: Load,
        folder: Path,
        port: int,
        storescu: Path,
        ours: ProcessPoolExecutor,
        quick: bool,
    ) -> None:
        self._what = what
        self._port = port
        self._storescu = storescu
        self._ours = ours
        template = load(what.load)
        count = max(1, what.files // (20 if quick else 1))
        [self._files] = write_files(template, folder / "files", 1, count)
        [self._one_file] = write_files(load("mr"), folder / "one", 1, 1)
        self._megabytes = count * len(template.data_set) / _MB
        self._count = count

    def run(self, rounds: int) -> bool:
        """Measure, print, and return whether every goal is met."""
        senders: dict[str, Callable[[], Cost]] = {
            "OURS": lambda: self._by_us(send_files),
            "OURS forward": lambda: self._by_us(forward),
            "storescu": self._by_storescu,
            "bare": lambda: self._by_us(bare),
        }
        if self._what.load == "enhanced-ct":
            del senders["OURS forward"]  # a ledger adds nothing to one instance
        costs: dict[str, list[Cost]] = {name: [] for name in senders}
        for send in senders.values():
            send()  # what is done once is not the load's: files into the page cache, imports
        for turn in range(rounds):
            names = list(senders)
            for name in names[turn % len(names) :] + names[: turn % len(names)]:
                costs[name].append(senders[name]())
        return self._print(costs)

    def _by_us(self, send: Callable[[Sending], tuple[float, float, float]]) -> Cost:
        template = load(self._what.load)
        job = Sending(
            HOST,
            self._port,
            self._files,
            template.sop_class_uid,
            template.transfer_syntax_uid,
            self._what.associations,
        )
        return Cost(*self._ours.submit(send, job).result())

    def _by_storescu(self) -> Cost:
        """Return what storescu takes beyond its start, which a node has behind it."""
        whole, start = self._storescu_run(self._files), self._storescu_run(self._one_file)
        return Cost(whole.seconds - start.seconds, whole.cpu_s - start.cpu_s)

    def _storescu_run(self, folder: Path) -> Cost:
        syntax = "-xe" if load(self._what.load).transfer_syntax_uid.endswith(".1.2.1") else "-xi"
        command: list[str | Path] = [self._storescu, syntax, "--max-send-pdu", "131072", "+sd"]
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        begin = time.perf_counter()
        subprocess.run(
            [*command, HOST, str(self._port), folder],
            # Debian's leaves Nagle on otherwise, and reaches 30 MB/s
            env=os.environ | {"TCP_NODELAY": "1"},
            check=True,
        )
        seconds = time.perf_counter() - begin
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        return Cost(seconds, cpu_s)

    def _print(self, costs: dict[str, list[Cost]]) -> bool:
        what = self._what
        print(
            f"{what.name}: {self._count} x {what.load}, {self._megabytes:.0f} MB, "
            f"{what.associations} association(s) of ours, 1 of storescu"
        )
        print(f"  {'sender':<14}{'MB/s':>8}{'inst/s':>8}{'CPU s/GB':>10}{'+MB':>7}")
        for name, runs in costs.items():
            seconds = median(run.seconds for run in runs)
            cost = median(run.cpu_s for run in runs) / self._megabytes * 1000
            is_ours = name.startswith("OURS")
            growth = f"{max(run.growth_mb for run in runs):.1f}" if is_ours else "-"
            print(
                f"  {name:<14}{number(self._megabytes / seconds):>8}"
                f"{number(self._count / seconds):>8}{number(cost):>10}{growth:>7}"
            )
        pairs = list(zip(costs["OURS"], costs["storescu"], strict=True))
        rate = [theirs.seconds / ours.seconds for ours, theirs in pairs]
        cpu = [ours.cpu_s / theirs.cpu_s for ours, theirs in pairs if theirs.cpu_s > 0]
        growth_mb = [run.growth_mb for run in costs["OURS"]]
        bare = [
            floor.seconds / ours.seconds
            for ours, floor in zip(costs["OURS"], costs["bare"], strict=True)
        ]
        _verdict("rate of bare, which has each message ready in memory", bare, ">=", None)
        met = [
            _verdict("rate of storescu", rate, ">=", what.rate_min),
            _verdict("CPU of storescu", cpu, "<=", what.cpu_max),
            _verdict("MB of memory", growth_mb, "<=", what.growth_mb_max),
        ]
        print(flush=True)
        return all(met)


def _verdict(what: str, rounds: Sequence[float], sense: str, bound: float | None) -> bool:
    """Print the median of the rounds beside the goal; return whether it is met."""
    if not rounds:
        return True
    measured = median(rounds)
    spread = f"{number(measured)} ({number(min(rounds))} to {number(max(rounds))})"
    if bound is None:
        print(f"  {what}: {spread}")
        return True
    met = measured >= bound if sense == ">=" else measured <= bound
    print(f"  goal {sense} {bound:g} {what}: {spread}, {'met' if met else 'MISSED'}")
    return met


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.bench_send",
        description="Measure the node's C-STORE beside DCMTK's storescu; both to a receiver that "
        "drops everything.",
        epilog=f"Loads: {', '.join(one.name for one in LOADS)}.",
    )
    parser.add_argument("--only", nargs="+", metavar="LOAD", default=[])
    parser.add_argument("--rounds", type=int, default=_ROUNDS, metavar="N")
    parser.add_argument("--quick", action="store_true", help="few files: to see that it works")
    parser.add_argument("--work", type=Path, metavar="DIR", help="where the files are written")
    return parser


if __name__ == "__main__":
    sys.exit(main())
