"""Counting the calls of the stand-in, and letting one of them fail."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass
class Faults:
    """What was called, and which call is to fail."""

    fail_at: int = 0
    """The n-th call from the beginning; none by default."""
    how: Literal["answer", "raise"] = "answer"
    """Whether it answers None or False, with an error in the log, or raises."""
    refuse: Callable[[str], bool] = lambda name: False
    """Whether a call of this name is to fail now."""
    calls: list[str] = field(default_factory=list)
    log: Callable[[int, str], None] = lambda severity, message: None
    tamper: Callable[[str, Any], Any] = lambda name, values: values
    """Changes the outputs of a network, by name: a plan that computes wrongly."""

    def step(self, name: str) -> bool:
        """Count a call; return whether it is to fail, raise if it is to fail loudly."""
        self.calls.append(name)
        if len(self.calls) != self.fail_at and not self.refuse(name):
            return False
        if self.how == "raise":
            raise RuntimeError(f"injected: {name}")
        self.log(1, f"injected: {name}")
        return True
