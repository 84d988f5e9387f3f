"""The folder of one plan: the plan, and its description beside it.

`plan.json` has the recipe in clear, what the plan's bytes must be, and what came out when the plan
was checked. Files get their names only when their bytes are durable, the plan first: a plan without
a description was never finished, and is built again. What turns out damaged or wrong is renamed to
`plan.bad`, its description with the reason to `plan.json.bad`.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import structlog

from dicom_node.clock import Checkpoint
from dicom_node.errors import StorageError
from dicom_node.infer.plans.builder import Built
from dicom_node.infer.plans.recipe import Recipe
from dicom_node.store.local import LocalStore, translated

log = structlog.get_logger()

_PLAN, _ABOUT = "plan", "plan.json"


@dataclass(frozen=True, eq=False)
class Found:
    """A plan, and where it comes from."""

    plan: bytes
    sha256: str
    is_new: bool
    """It was built just now."""
    was_refused: bool = False
    """It gave wrong answers when it was new: building it again would not help."""


class PlanFolder:
    """Where a recipe's plan is kept.

    Parameters
    ----------
    root : Path
        Of all plans.
    recipe : Recipe
    checkpoint : Checkpoint
        Told after each step that makes a file durable.

    Raises
    ------
    StorageError
        If there is no folder and none can be made.
    """

    def __init__(self, root: Path, recipe: Recipe, checkpoint: Checkpoint) -> None:
        self._recipe = recipe
        self._store = LocalStore(root / recipe.key[:32], checkpoint=checkpoint)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Be the only one, of all processes, that changes this folder."""
        with locked(self._store):
            self._store.remove_leftovers()
            yield

    def find(self) -> Found | None:
        """Return the plan that is kept; put it aside if it is not what its description says."""
        if not self._store.path(_ABOUT).exists():
            return None
        try:
            about = json.loads(self._store.path(_ABOUT).read_text("utf-8"))
            plan = self._store.path(_PLAN).read_bytes()
            if about["key"] != self._recipe.key:
                raise ValueError("it was made by another recipe")
            if len(plan) != about["size_bytes"]:
                raise ValueError(f"it has {len(plan)} bytes, not {about['size_bytes']}")
            digest = hashlib.sha256(plan).hexdigest()
            if digest != about["sha256"]:
                raise ValueError(f"its SHA-256 is {digest}, not {about['sha256']}")
            refused = about["check"]["accepted"] is False
            return Found(plan, digest, is_new=False, was_refused=refused)
        except (OSError, ValueError, KeyError, TypeError) as error:
            self.put_aside(f"damaged: {error}")
            return None

    def keep(self, built: Built) -> Found:
        """Keep a new plan; where the disk does not take it, it is only built again another time."""
        found = Found(built.plan, hashlib.sha256(built.plan).hexdigest(), is_new=True)
        about = {
            "key": self._recipe.key,
            "recipe": self._recipe.in_clear(),
            "sha256": found.sha256,
            "size_bytes": len(built.plan),
            "build_s": built.seconds,
            "warnings": list(built.warnings),
            "check": {"accepted": None, "words": "not yet checked"},
        }
        try:
            self._store.save(_PLAN, [built.plan])
            self._write(about)
        except StorageError as error:
            log.warning("plan_not_kept", model=self._recipe.model, reason=error.in_words)
        return found

    def note(self, found: Found, *, accepted: bool, words: str) -> None:
        """Write the outcome of a check into the description, unless it stands there."""
        check = {"accepted": accepted, "words": words}
        try:
            with self.locked():
                if not self._store.path(_ABOUT).exists():
                    return  # it was not kept, or another process put it aside
                about = json.loads(self._store.path(_ABOUT).read_text("utf-8"))
                if about["sha256"] == found.sha256 and about["check"] != check:
                    self._write(about | {"check": check})
        except StorageError as error:  # it is checked before each use in any case
            log.warning("plan_check_not_kept", model=self._recipe.model, reason=error.in_words)

    def put_aside(self, reason: str) -> None:
        """Rename a plan that is not to be used, and say why in its description."""
        log.warning("plan_put_aside", model=self._recipe.model, reason=reason)
        plan, about = self._store.path(_PLAN), self._store.path(_ABOUT)
        told: dict[str, object] = {"put_aside": reason}
        with translated(about):
            try:
                told |= json.loads(about.read_text("utf-8"))
            except (OSError, ValueError, TypeError):
                """Then the reason is all that can be told."""
            if plan.exists():
                os.replace(plan, plan.with_name(f"{_PLAN}.bad"))
            about.with_name(f"{_ABOUT}.bad").write_text(json.dumps(told, indent=2), "utf-8")
            about.unlink(missing_ok=True)

    def _write(self, about: dict[str, object]) -> None:
        self._store.save(_ABOUT, [json.dumps(about, indent=2).encode()])


@contextmanager
def locked(store: LocalStore) -> Iterator[None]:
    """Hold a folder's lock; it ends with the process, however that ends."""
    path = store.path("lock")
    with translated(path):
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            log.info("plan_wait", folder=store.root.name)
            fcntl.flock(fd, fcntl.LOCK_EX)
    try:
        yield
    finally:
        os.close(fd)
