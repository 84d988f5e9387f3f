"""What a log line holds, and what it must not."""

from __future__ import annotations

import sys
from contextlib import suppress

import pytest

from dicom_node.errors import InvariantBroken, StudyUnusable
from dicom_node.logs import StandardError, without_foreign_words


def test_an_exception_is_written_without_the_words_of_foreign_libraries() -> None:
    try:
        try:
            raise ValueError("DOE^JANE is no valid value")
        except ValueError as error:
            raise InvariantBroken("the SEG cannot be built") from error
    except InvariantBroken:
        event = without_foreign_words(None, "error", {"event": "job_failed", "exc_info": True})
    [ours, foreign] = event["exception"]
    assert (ours["type"], ours["message"]) == ("InvariantBroken", "the SEG cannot be built")
    assert (foreign["type"], foreign["message"]) == ("ValueError", "")
    assert "test_logs.py" in foreign["at"][0]
    assert "DOE" not in str(event)


def test_a_line_without_an_exception_is_left_alone() -> None:
    error = StudyUnusable("slices are missing")
    event = {"event": "job_refused", "reason": error.message}
    assert without_foreign_words(None, "warning", dict(event)) == event


def test_a_full_disk_under_standard_error_stops_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    with open("/dev/full", "w") as full:
        monkeypatch.setattr(sys, "stderr", full)
        StandardError().warning("a line that does not fit")
        monkeypatch.undo()
        with suppress(OSError):
            full.close()
