"""One line of JSON for each thing that happened, on standard error.

Patient names, IDs, birth dates and accession numbers are never written: our own lines carry UIDs
and AE titles only, and pydicom's warnings, which quote values, are silenced.
"""

from __future__ import annotations

import logging
import sys
import traceback
import warnings
from collections.abc import Iterator
from contextlib import suppress
from types import TracebackType

import structlog
from structlog.typing import EventDict, WrappedLogger

from dicom_node.errors import DicomNodeError


def configure_logs(level: str) -> None:
    """Set up logging for this process; called once by each process's entry."""
    warnings.filterwarnings("ignore", module="pydicom")
    warnings.filterwarnings("ignore", module="highdicom")
    logging.getLogger("pydicom").setLevel(logging.CRITICAL)
    logging.getLogger("pynetdicom").setLevel(logging.CRITICAL)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            without_foreign_words,
            structlog.processors.EventRenamer("event"),
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=lambda *_: StandardError(),
        cache_logger_on_first_use=True,
    )


class StandardError:
    """Writes lines to standard error, and goes on where that is a full disk or a broken pipe."""

    def msg(self, line: str) -> None:
        with suppress(OSError, ValueError):
            sys.stderr.write(line + "\n")
            sys.stderr.flush()

    debug = info = warning = error = critical = exception = msg


def without_foreign_words(_logger: WrappedLogger, _name: str, event: EventDict) -> EventDict:
    """Render the exception under `exc_info`: types and places, but no foreign message.

    pydicom and highdicom quote the values that they doubt, so only our own messages are written.
    """
    if event.pop("exc_info", None):
        event["exception"] = [
            {
                "type": type(error).__name__,
                "message": error.message if isinstance(error, DicomNodeError) else "",
                "at": list(_places(error.__traceback__)),
            }
            for error in _chain(sys.exc_info()[1])
        ]
    return event


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _places(trace: TracebackType | None) -> Iterator[str]:
    for frame in traceback.extract_tb(trace):
        yield f"{frame.filename}:{frame.lineno} {frame.name}"
