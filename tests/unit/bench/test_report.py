"""What the benchmark makes of its runs, and how it counts what processes use."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.bench.measure import cpu_s, memory_bytes, threads, tree
from tests.bench.report import Verdict, middle, ratio, verdicts
from tests.bench.rows import ROWS, Goal, Row, at_least
from tests.bench.workbench import Measurement

BURN = "import time\nwhile time.process_time() < 0.2: pass"
PARENT = f"""
import subprocess, sys
subprocess.run([sys.executable, "-c", {BURN!r}], check=True)
wait = [sys.executable, "-c", "import sys; sys.stdin.read()"]
child = subprocess.Popen(wait, stdin=subprocess.PIPE)
print("ready", flush=True)
input()
child.communicate()
"""


def runs(*values: float | None) -> list[Measurement]:
    return [Measurement({} if value is None else {"mb_s": value}) for value in values]


def test_a_ratio_is_the_median_of_the_ratios_of_each_round() -> None:
    # the machine was slow in the second round; the ratio of the medians would be 2
    assert ratio("mb_s", runs(100, 10, 300), runs(50, 5, 300)) == 2
    assert ratio("mb_s", runs(100, 20, 20), runs(200, 10, 10)) == 2


def test_a_round_that_one_of_both_missed_counts_for_neither() -> None:
    assert ratio("mb_s", runs(100, None, 30), runs(50, 5, 10)) == 2.5
    assert ratio("mb_s", runs(None), runs(5)) is None
    assert middle(runs(3, None, 1)) == {"mb_s": 2}


@pytest.mark.parametrize(
    ("sense", "measured", "met"),
    [
        (">=", 1.0, True),
        (">=", 0.99, False),
        ("<=", 1.0, True),
        ("<=", 1.01, False),
        (">=", None, False),
    ],
)
def test_a_goal_is_met_or_missed(sense: str, measured: float | None, met: bool) -> None:
    verdict = Verdict("row", Goal("mb_s", sense, 1.0, "B"), measured)
    assert verdict.met is met
    said = "not measured" if measured is None else "met" if met else "MISSED"
    assert verdict.in_words("MB/s").endswith(said)


def test_a_goal_is_judged_by_the_peer_that_it_names() -> None:
    row = Row("r", "", ROWS[0].probe, (), (at_least("mb_s", 2, "B"), at_least("mb_s", 150)))
    measured = {"OURS": runs(100, 100), "B": runs(50, 25)}
    [beside, alone] = verdicts(row, measured)
    assert (beside.measured, beside.met) == (3, True)
    assert (alone.measured, alone.met) == (100, False)


def test_every_goal_names_what_its_row_measures() -> None:
    for row in ROWS:
        keys = {contestant.key for contestant in row.contestants}
        for goal in row.goals:
            assert goal.value in row.probe.columns, row.name
            assert {goal.subject, goal.of or goal.subject} <= keys, row.name
    assert len({row.name for row in ROWS}) == len(ROWS)


def test_a_tree_of_processes_is_counted_with_the_children_that_ended() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PARENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == "ready\n"
        found = tree(parent.pid)
        assert len(found) == 2
        assert found[0] == parent.pid
        assert cpu_s(found) >= 0.2
        assert memory_bytes(found) > memory_bytes(found[:1]) > 1_000_000
        # the kernel keeps both counts roughly, and each for itself
        assert memory_bytes(found, "VmHWM") >= 0.9 * memory_bytes(found)
        assert threads(found) == 2
        parent.communicate("\n")
    assert tree(parent.pid) == [parent.pid]
    assert cpu_s([parent.pid]) == memory_bytes([parent.pid]) == 0
