"""A plan is built once, whoever asks and whatever happens; a bad one is never served."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from dicom_node.errors import EngineError, EngineUnavailable, StorageError
from dicom_node.infer.plans.builder import Built
from dicom_node.infer.plans.cache import PlanCache
from tests.unit.infer.plans.caching import RECIPE, Bench

CACHING = Path(__file__).with_name("caching.py")


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path / "plans")


def kept(root: Path) -> Path:
    """Return the folder of the only plan."""
    (folder,) = [file.parent for file in root.glob("*/plan")]
    return folder


def test_a_plan_is_built_once_and_found_afterwards(bench: Bench) -> None:
    assert bench.use() == b"plan 1"
    assert bench.use() == b"plan 1"
    assert bench.builds == 1
    assert bench.tried == [b"plan 1", b"plan 1"]


def test_its_description_says_what_it_depends_on_and_how_it_was_checked(bench: Bench) -> None:
    bench.use()
    about = json.loads((kept(bench.root) / "plan.json").read_text())
    assert about["key"] == RECIPE.key
    assert about["recipe"]["gpu"] == {
        "name": "H200",
        "arch": "sm_90",
        "memory_bytes": 150_000_000_000,
        "cuda": 13,
    }
    assert about["recipe"]["shapes"] == {
        "x": {"smallest": [1, 1], "usual": [4, 1], "largest": [8, 1]}
    }
    assert about["size_bytes"] == len(b"plan 1")
    assert about["build_s"] == 1.5
    assert about["warnings"] == ["it is warm"]
    assert about["check"] == {"accepted": True, "words": "as it should be"}


@pytest.mark.parametrize(
    "other",
    [
        replace(RECIPE, tensorrt="tensorrt 11.4.0.107"),
        replace(RECIPE, tensorrt="tensorrt_rtx 11.4.0.106"),
        replace(RECIPE, gpu=replace(RECIPE.gpu, name="H100")),
        replace(RECIPE, gpu=replace(RECIPE.gpu, arch="sm_100")),
        replace(RECIPE, gpu=replace(RECIPE.gpu, memory_bytes=18_000_000_000)),
        replace(RECIPE, gpu=replace(RECIPE.gpu, cuda=12)),
        replace(RECIPE, model_sha256="1" * 64),
        replace(RECIPE, precision="fp32"),
        replace(RECIPE, converter="half 2, onnx 1.23.2"),
        replace(RECIPE, shapes={}),
        replace(RECIPE, workspace_bytes=1),
        replace(RECIPE, builder=2),
        replace(RECIPE, platform="Linux aarch64"),
    ],
)
def test_whatever_a_plan_depends_on_makes_another_plan(bench: Bench, other: object) -> None:
    bench.use()
    bench.recipe = other  # type: ignore[assignment]
    assert bench.use() == b"plan 2"
    bench.recipe = RECIPE
    assert bench.use() == b"plan 1"


def test_the_name_of_the_file_makes_none(bench: Bench) -> None:
    bench.use()
    bench.recipe = replace(RECIPE, model="renamed.onnx")
    assert bench.use() == b"plan 1"


def truncated(folder: Path) -> str:
    os.truncate(folder / "plan", 3)
    return "it has 3 bytes, not 6"


def with_a_flipped_bit(folder: Path) -> str:
    content = bytearray((folder / "plan").read_bytes())
    content[2] ^= 1
    (folder / "plan").write_bytes(content)
    return "its SHA-256 is"


def without_the_plan(folder: Path) -> str:
    (folder / "plan").unlink()
    return "No such file"


def with_a_broken_description(folder: Path) -> str:
    (folder / "plan.json").write_text("{")
    return "Expecting property name"


def with_a_description_that_lacks_a_word(folder: Path) -> str:
    about = json.loads((folder / "plan.json").read_text())
    del about["sha256"]
    (folder / "plan.json").write_text(json.dumps(about))
    return "'sha256'"


def of_another_recipe(folder: Path) -> str:
    about = json.loads((folder / "plan.json").read_text())
    (folder / "plan.json").write_text(json.dumps(about | {"key": "0" * 64}))
    return "made by another recipe"


@pytest.mark.parametrize(
    "damage",
    [
        truncated,
        with_a_flipped_bit,
        without_the_plan,
        with_a_broken_description,
        with_a_description_that_lacks_a_word,
        of_another_recipe,
    ],
)
def test_a_damaged_plan_is_put_aside_with_the_reason_and_built_again(
    bench: Bench, damage: Callable[[Path], str]
) -> None:
    bench.use()
    folder = kept(bench.root)
    reason = damage(folder)
    had_plan = (folder / "plan").exists()
    assert bench.use() == b"plan 2"
    assert bench.use() == b"plan 2"
    assert bench.builds == 2
    assert reason in json.loads((folder / "plan.json.bad").read_text())["put_aside"]
    assert (folder / "plan.bad").exists() == had_plan


def test_a_plan_without_its_description_was_never_finished(bench: Bench) -> None:
    bench.use()
    (kept(bench.root) / "plan.json").unlink()
    assert bench.use() == b"plan 2"


def test_a_plan_that_gives_other_answers_than_when_it_was_new_is_built_again_once(
    bench: Bench,
) -> None:
    bench.use()
    bench.bad = {b"plan 1"}
    assert bench.use() == b"plan 2"
    folder = kept(bench.root)
    told = json.loads((folder / "plan.json.bad").read_text())
    assert told["put_aside"] == "plan 1 is not good"
    assert (folder / "plan.bad").read_bytes() == b"plan 1"
    bench.bad = {b"plan 2", b"plan 3", b"plan 4"}
    with pytest.raises(EngineError, match="plan 3 is not good"):
        bench.use()
    assert bench.builds == 3


def test_a_new_plan_that_is_not_good_is_not_built_again_and_again(bench: Bench) -> None:
    bench.bad = {b"plan 1"}
    for _ in range(3):
        with pytest.raises(EngineError, match="plan 1 is not good"):
            bench.use()
    assert bench.builds == 1
    about = json.loads((kept(bench.root) / "plan.json").read_text())
    assert about["check"] == {"accepted": False, "words": "plan 1 is not good"}
    bench.bad = set()  # the author allows more now
    assert bench.use() == b"plan 1"
    about = json.loads((kept(bench.root) / "plan.json").read_text())
    assert about["check"]["accepted"] is True


def test_a_device_that_cannot_now_says_nothing_against_the_plan(bench: Bench) -> None:
    bench.unavailable = True
    with pytest.raises(EngineUnavailable):
        bench.use()
    bench.unavailable = False
    assert bench.use() == b"plan 1"
    bench.unavailable = True
    with pytest.raises(EngineUnavailable):
        bench.use()
    bench.unavailable = False
    assert bench.use() == b"plan 1"
    assert bench.builds == 1


def test_what_cannot_be_built_leaves_nothing(bench: Bench) -> None:
    def refuse(timing: bytes) -> Built:
        raise EngineError("no such operator")

    with pytest.raises(EngineError, match="no such operator"):
        PlanCache(bench.root).use(RECIPE, refuse, lambda plan: (plan, ""))
    assert list(bench.root.glob("*/plan*")) == []
    assert bench.use() == b"plan 1"


def test_what_one_build_measured_helps_the_next_on_such_a_machine(bench: Bench) -> None:
    bench.use()
    assert bench.timings == [b""]
    bench.recipe = replace(RECIPE, model_sha256="1" * 64)
    bench.use()
    assert bench.timings == [b"", b"measured 1"]
    bench.recipe = replace(RECIPE, gpu=replace(RECIPE.gpu, name="H100"))
    bench.use()
    bench.recipe = replace(RECIPE, tensorrt="tensorrt 12.0.0.1")
    bench.use()
    assert bench.timings[2:] == [b"", b""]


def test_where_no_folder_can_be_made_it_says_so(tmp_path: Path) -> None:
    (tmp_path / "plans").write_text("a file")
    with pytest.raises(StorageError):
        Bench(tmp_path / "plans").use()


def processes(root: Path, *modes: str) -> list[subprocess.Popen[str]]:
    return [
        subprocess.Popen(
            [sys.executable, CACHING, root, mode],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[4],
        )
        for mode in modes
    ]


def said(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def let_go_on(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("go on\n")
    process.stdin.flush()


def test_of_two_processes_one_builds_and_the_other_waits_for_the_plan(tmp_path: Path) -> None:
    """The first is let go only when the second has been seen waiting for its lock."""
    both = processes(tmp_path, "slow", "slow")
    lines = [said(one) for one in both]
    assert sorted(lines) == ["building", "waiting"]
    let_go_on(both[lines.index("building")])
    told = [one.communicate()[0].split() for one in both]
    assert [one.returncode for one in both] == [0, 0]
    (plan,) = {words[-1] for words in told}
    assert plan == f"plan-of-{both[lines.index('building')].pid}"
    assert len(list(tmp_path.glob("*/plan"))) == 1


@pytest.mark.parametrize(
    "step",
    ["store.written", "store.synced", "store.renamed", "store.saved"],
)
@pytest.mark.parametrize("passing", [1, 2])
def test_a_builder_that_is_killed_leaves_nothing_that_is_served_half(
    step: str, passing: int, tmp_path: Path
) -> None:
    """At each step of the plan (1) and of its description (2)."""
    (killed,) = processes(tmp_path, f"{step}:{passing}")
    assert killed.communicate()[0] == "building\n"
    assert killed.returncode == -9
    after = Bench(tmp_path)
    finished = passing == 2 and step in ("store.renamed", "store.saved")
    assert after.use() == (f"plan-of-{killed.pid}".encode() if finished else b"plan 1")
    assert after.builds == (0 if finished else 1)
    assert list(tmp_path.glob("*/incoming/*")) == []
