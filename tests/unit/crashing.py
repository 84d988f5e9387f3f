"""Checkpoints for the worker process of a test: module-level, so that they can be sent there."""

from __future__ import annotations

import os
import threading


def exit_when_started(name: str) -> None:
    """End the process, as a crash in native code would, with the job in hand."""
    if name.startswith("infer.started"):
        os._exit(42)


def hang_when_started(name: str) -> None:
    """Never come back, while the heart goes on beating."""
    if name.startswith("infer.started"):
        threading.Event().wait()
