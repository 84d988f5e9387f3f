"""What TensorRT says while it works: kept, so that an error can tell why."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, SupportsInt

from dicom_node.infer.plans.api import ILogger, TensorRt

_ERROR, _WARNING = 1, 2
"""Of `ILogger.Severity`, the same in every version: 0 internal error, 3 and more information."""

_KEPT = 1000


class Messages:
    """Errors and warnings, in the order in which they came, from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._heard: list[tuple[int, str]] = []
        self._dropped = 0

    def hear(self, severity: int, message: str) -> None:
        """Keep one; called by TensorRT, also from threads of its own."""
        if severity > _WARNING:
            return
        with self._lock:
            self._heard.append((severity, " ".join(message.split())))
            surplus = max(0, len(self._heard) - _KEPT)
            del self._heard[:surplus]
            self._dropped += surplus

    @contextmanager
    def listening(self) -> Iterator[Heard]:
        """Give those that come until the block ends; of other threads' work too."""
        with self._lock:
            begin = self._dropped + len(self._heard)
        yield Heard(self, begin)

    def since(self, begin: int, severity_max: int) -> tuple[str, ...]:
        with self._lock:
            found = self._heard[max(0, begin - self._dropped) :]
        return tuple(dict.fromkeys(m for severity, m in found if severity <= severity_max))


class Heard:
    """The messages since a moment, each once."""

    def __init__(self, messages: Messages, begin: int) -> None:
        self._messages, self._begin = messages, begin

    @property
    def errors(self) -> tuple[str, ...]:
        return self._messages.since(self._begin, _ERROR)

    @property
    def warnings(self) -> tuple[str, ...]:
        """Warnings and errors."""
        return self._messages.since(self._begin, _WARNING)


def make_logger(trt: TensorRt, messages: Messages) -> ILogger:
    """Return a logger of TensorRT's that hands its messages on."""

    def begin(self: Any) -> None:
        trt.ILogger.__init__(self)  # type: ignore[misc]  # what pybind11 asks of a subclass

    def log(self: Any, severity: SupportsInt, message: str) -> None:
        messages.hear(int(severity), message)

    logger: ILogger = type("Logger", (trt.ILogger,), {"__init__": begin, "log": log})()
    return logger
