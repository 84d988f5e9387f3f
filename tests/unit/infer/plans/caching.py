"""Plans that are made of words: for tests of the cache, and as a process that can be killed.

python caching.py ROOT slow          wait for a line on stdin while building
python caching.py ROOT STEP:N        die at the n-th passing of a step
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import structlog

from dicom_node.clock import Checkpoint, pass_checkpoint
from dicom_node.errors import EngineError, EngineUnavailable
from dicom_node.infer.plans.builder import Built
from dicom_node.infer.plans.cache import PlanCache
from dicom_node.infer.plans.recipe import Gpu, Recipe
from dicom_node.infer.runtimes.port import Profile

RECIPE = Recipe(
    model="model.onnx",
    model_sha256="0" * 64,
    precision="fp16",
    converter="half 1, onnx 1.23.2",
    shapes={"x": Profile((1, 1), (4, 1), (8, 1))},
    workspace_bytes=1 << 30,
    tensorrt="tensorrt 11.4.0.106",
    builder=1,
    gpu=Gpu(name="H200", arch="sm_90", memory_bytes=150_000_000_000, cuda=13),
    platform="Linux x86_64",
)


class Bench:
    """A cache, and what builds its plans and tries them out."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.recipe = RECIPE
        self.builds = 0
        self.timings: list[bytes] = []
        self.tried: list[bytes] = []
        self.bad: set[bytes] = set()
        self.unavailable = False

    def use(self) -> bytes:
        return PlanCache(self.root).use(self.recipe, self._build, self._try_out)

    def _build(self, timing: bytes) -> Built:
        self.builds += 1
        self.timings.append(timing)
        measured = f"measured {self.builds}".encode()
        return Built(f"plan {self.builds}".encode(), measured, 1.5, ("it is warm",))

    def _try_out(self, plan: bytes) -> tuple[bytes, str]:
        self.tried.append(plan)
        if self.unavailable:
            raise EngineUnavailable("the GPU is full")
        if plan in self.bad:
            raise EngineError(f"{plan.decode()} is not good")
        return plan, "as it should be"


def killing(step: str, number: int) -> Checkpoint:
    """Return a checkpoint at which this process dies when it passes a step the n-th time."""
    passed: list[str] = []

    def pass_by(name: str) -> None:
        passed.append(name)
        if passed.count(step) == number:
            os.kill(os.getpid(), signal.SIGKILL)

    return pass_by


def main(root: Path, mode: str) -> None:
    """Use the plan of RECIPE, and say whose it is."""
    structlog.configure(logger_factory=_waiting_is_told)

    def build(timing: bytes) -> Built:
        print("building", flush=True)
        if mode == "slow":
            sys.stdin.readline()
        return Built(f"plan-of-{os.getpid()}".encode(), b"", 1.0, ())

    checkpoint: Checkpoint = pass_checkpoint
    if ":" in mode:
        step, number = mode.split(":")
        checkpoint = killing(step, int(number))
    used = PlanCache(root, checkpoint).use(RECIPE, build, lambda plan: (plan, "fine"))
    print(used.decode(), flush=True)


class _Listener:
    """A logger that tells of one event only."""

    def __getattr__(self, level: str) -> Callable[..., None]:
        def hear(*words: object, **fields: object) -> None:
            if any("plan_wait" in str(word) for word in words):
                print("waiting", flush=True)

        return hear


def _waiting_is_told(*_: object) -> _Listener:
    return _Listener()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
