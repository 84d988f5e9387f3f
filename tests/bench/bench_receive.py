"""The benchmark of the receive path: the node beside the receivers that hospitals have.

`python -m tests.bench.bench_receive --help`; README.md beside this file says what is measured.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from tests.bench.association import PeerFailed
from tests.bench.receivers import NotHere
from tests.bench.report import Runs, Verdict, as_json, summary, table, verdicts
from tests.bench.rows import ROWS, Row
from tests.bench.sender import Sender
from tests.bench.workbench import Contestant, Measurement, Workbench

_ROUNDS = 5


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    named = [row for row in ROWS if not options.only or _named(row.name, options.only)]
    rows = [row for row in (_narrowed(row, options.receivers) for row in named) if row.contestants]
    if not rows:
        print("no such row or receiver; --help lists them", file=sys.stderr)
        return 2
    rounds = options.rounds or (1 if options.quick else _ROUNDS)
    if options.work:
        options.work.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="bench-receive-", dir=options.work))
    told: list[dict[str, Any]] = []
    all_verdicts: list[Verdict] = []
    try:
        with Sender() as sender:
            bench = Workbench(folder, sender, options.quick)
            for row in rows:
                runs = _run(bench, row, min(rounds, row.rounds_max))
                print(table(row, runs), end="\n\n", flush=True)
                told.append(as_json(row, runs))
                all_verdicts += verdicts(row, runs)
                if options.json:  # after every row: a long run that is cut short tells something
                    text = {"machine": _machine(), "quick": options.quick, "rows": told}
                    options.json.write_text(json.dumps(text, indent=1) + "\n")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(summary(all_verdicts))
    return 1 if _lost(told) else 0


def _run(bench: Workbench, row: Row, rounds: int) -> Runs:
    """Run every contestant once a round, in turns, so that all see the same machine."""
    runs: Runs = {contestant.key: [] for contestant in row.contestants}
    for i in range(rounds):
        turn = i % len(row.contestants)
        for contestant in row.contestants[turn:] + row.contestants[:turn]:
            start = time.monotonic()
            measurement = _measure(bench, row, contestant)
            runs[contestant.key].append(measurement)
            main = next(iter(row.probe.columns))
            value = measurement.values.get(main)
            got = "nothing" if value is None else f"{value:.4g} {row.probe.columns[main]}"
            print(
                f"{row.name} round {i + 1}/{rounds} {contestant.key}: {got}"
                f" ({time.monotonic() - start:.0f} s)",
                file=sys.stderr,
                flush=True,
            )
    bench.clear()
    return runs


def _measure(bench: Workbench, row: Row, contestant: Contestant) -> Measurement:
    try:
        return row.probe.measure(bench, contestant)
    except NotHere as error:
        return Measurement(notes=[f"skipped: {error}"])
    except (PeerFailed, OSError) as error:
        return Measurement(notes=[f"failed: {error}"])


def _narrowed(row: Row, keys: Sequence[str]) -> Row:
    """Return the row with these contestants alone, and the goals that they leave."""
    if not keys:
        return row
    kept = tuple(contestant for contestant in row.contestants if contestant.key in keys)
    names = {contestant.key for contestant in kept} | {""}
    goals = tuple(goal for goal in row.goals if {goal.of, goal.subject} <= names)
    return Row(row.name, row.title, row.probe, kept, goals, row.rounds_max)


def _lost(told: Sequence[dict[str, Any]]) -> bool:
    return any(
        "lost" in run["values"]
        for row in told
        for key, receiver in row["receivers"].items()
        for run in receiver["rounds"]
        if key.startswith("OURS")
    )


def _machine() -> dict[str, Any]:
    return {
        "cores": os.cpu_count(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def _named(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch(name, pattern) for pattern in patterns)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.bench_receive",
        description="Measure the node's receive path beside DCMTK, Orthanc and pynetdicom.",
        epilog=f"Rows: {', '.join(row.name for row in ROWS)}.",
    )
    parser.add_argument("--only", nargs="+", metavar="NAME", default=[], help="rows; ct-* works")
    parser.add_argument(
        "--receivers", nargs="+", metavar="KEY", default=[], help="OURS, B, F, O, P and so on"
    )
    parser.add_argument(
        "--rounds", type=int, metavar="N", help=f"default {_ROUNDS}; 1 with --quick"
    )
    parser.add_argument("--quick", action="store_true", help="few instances: to see that it works")
    parser.add_argument("--json", type=Path, metavar="FILE", help="every value of every round")
    parser.add_argument("--work", type=Path, metavar="DIR", help="where the receivers write")
    return parser


if __name__ == "__main__":
    sys.exit(main())
