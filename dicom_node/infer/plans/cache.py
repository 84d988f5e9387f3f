"""Plans on the disk: built once, and looked at again before each use.

Who builds a plan holds a lock on its folder; a second process waits, and then finds the plan. One
that is damaged, that TensorRT does not take, or that gives other answers than when it was new, is
put aside and built again: once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import structlog

from dicom_node.clock import Checkpoint, pass_checkpoint
from dicom_node.errors import EngineError, EngineUnavailable, StorageError
from dicom_node.infer.plans.builder import Built
from dicom_node.infer.plans.folder import Found, PlanFolder, locked
from dicom_node.infer.plans.recipe import Recipe
from dicom_node.store.local import LocalStore

log = structlog.get_logger()
T = TypeVar("T")

Build = Callable[[bytes], Built]
"""Builds a plan, given the timing cache of earlier builds."""


class PlanCache:
    """Plans below one folder.

    Parameters
    ----------
    root : Path
        Made if it is not there.
    checkpoint : Checkpoint
        Told after each step that makes a file durable.
    """

    def __init__(self, root: Path, checkpoint: Checkpoint = pass_checkpoint) -> None:
        self._root = root
        self._checkpoint = checkpoint

    def use(self, recipe: Recipe, build: Build, try_out: Callable[[bytes], tuple[T, str]]) -> T:
        """Return what `try_out` makes of a plan that is kept, or else of one that is built now.

        Parameters
        ----------
        recipe : Recipe
        build : callable
        try_out : callable
            Loads a plan and compares its answers; returns what it loaded, and the outcome in
            words. Raises `EngineError` if the plan is not good, `EngineUnavailable` if that cannot
            be told now.

        Raises
        ------
        EngineError
            If it cannot be built, or is not good when it is new.
        EngineUnavailable
            If the device cannot now.
        StorageError
            If there is no folder for it and none can be made.
        """
        folder = PlanFolder(self._root, recipe, self._checkpoint)
        found = self._find_or_build(folder, recipe, build)
        try:
            return _tried(folder, found, try_out)
        except EngineUnavailable:
            raise
        except EngineError as error:
            if found.is_new or found.was_refused:
                raise
            with folder.locked():
                kept = folder.find()
                if kept is not None and kept.sha256 == found.sha256:  # nobody was faster
                    folder.put_aside(error.message)
        return _tried(folder, self._find_or_build(folder, recipe, build), try_out)

    def _find_or_build(self, folder: PlanFolder, recipe: Recipe, build: Build) -> Found:
        with folder.locked():
            if (found := folder.find()) is not None:
                return found
            told = {"model": recipe.model, "precision": recipe.precision}
            log.info("plan_build", **told)
            built = build(self._timing(recipe))
            log.info("plan_built", build_s=built.seconds, size_bytes=len(built.plan), **told)
            found = folder.keep(built)
        self._keep_timing(recipe, built.timing)
        return found

    def _timing(self, recipe: Recipe) -> bytes:
        """Return what earlier builds measured with this TensorRT on such a GPU."""
        try:
            return self._timing_store().path(_timing_name(recipe)).read_bytes()
        except FileNotFoundError:
            return b""

    def _keep_timing(self, recipe: Recipe, timing: bytes) -> None:
        """Keep it for the next build; of two at a time the later one's stays."""
        if not timing:
            return
        try:
            store = self._timing_store()
            with locked(store):
                store.remove_leftovers()
                store.save(_timing_name(recipe), [timing])
        except StorageError as error:  # the next build takes longer, nothing else
            log.warning("timing_cache_not_kept", reason=error.in_words)

    def _timing_store(self) -> LocalStore:
        return LocalStore(self._root / "timing", checkpoint=self._checkpoint)


def _tried(folder: PlanFolder, found: Found, try_out: Callable[[bytes], tuple[T, str]]) -> T:
    """Try a plan, and write down how it went."""
    try:
        used, words = try_out(found.plan)
    except EngineUnavailable:
        raise
    except EngineError as error:
        if found.is_new:
            folder.note(found, accepted=False, words=error.message)
        raise
    folder.note(found, accepted=True, words=words)
    return used


def _timing_name(recipe: Recipe) -> str:
    machine = f"{recipe.tensorrt} {recipe.platform} {recipe.gpu}"
    return hashlib.sha256(machine.encode()).hexdigest()[:32]
