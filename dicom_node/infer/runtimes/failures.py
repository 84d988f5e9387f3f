"""The failures of runtimes that run in this process, in our words."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from dicom_node.errors import DicomNodeError, EngineError, EngineUnavailable

_OUT_OF_MEMORY = ("allocate", "bad_alloc", "bad allocation", "out of memory")
_SAYS_NOTHING = re.compile(
    r"Exception from |Check '|FrontEnd API failed|Model wasn't fully converted|Summary:"
)
"""OpenVINO's messages begin with the lines of its C++ that they passed."""


@contextmanager
def translated(what: str) -> Iterator[None]:
    """Translate whatever a runtime raises: their exceptions have no base of their own.

    Raises
    ------
    EngineUnavailable
        If memory is lacking.
    EngineError
        For everything else, with the first line that says something.
    """
    try:
        yield
    except DicomNodeError:
        raise
    except Exception as error:
        if isinstance(error, MemoryError) or any(sign in str(error) for sign in _OUT_OF_MEMORY):
            raise EngineUnavailable(
                f"{what}: out of memory", hint="give the worker more memory"
            ) from error
        lines = [line.strip(" -") for line in str(error).splitlines() if line.strip(" -")]
        said = [line for line in lines if not _SAYS_NOTHING.match(line)] or lines
        raise EngineError(f"{what}: {said[0] if said else type(error).__name__}") from error
