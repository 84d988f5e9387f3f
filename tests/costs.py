"""A plugin of pytest that measures what each test takes, and writes down those that take long.

`make long` runs the quick loop's tests with it, on a machine that does nothing else. What it
writes, tests/long.txt, conftest.py reads: those tests are `slow`, for `make test` alone.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Generator
from pathlib import Path

import pytest

FILE = Path(__file__).with_name("long.txt")
"""A line a test function: the seconds that all its cases take together, and its name."""

LONG_S = 0.3
"""Where leaving out a test for good wins more for the quick loop than the test is worth there."""

_seconds: defaultdict[str, float] = defaultdict(float)


def function_of(nodeid: str) -> str:
    """Return the name of a test without its case."""
    return nodeid.partition("[")[0]


def long_tests() -> dict[str, float]:
    """Return the seconds of each test that was found to take long."""
    lines = [line.split(maxsplit=1) for line in FILE.read_text().splitlines()]
    return {name: float(seconds) for seconds, name in lines}


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Measure a case with its fixtures."""
    begin = time.monotonic()
    try:
        return (yield)
    finally:
        _seconds[function_of(item.nodeid)] += time.monotonic() - begin


def pytest_sessionfinish(exitstatus: int) -> None:
    """Write down those that take long, if every test ran and passed."""
    if exitstatus == pytest.ExitCode.OK:
        long = ((name, seconds) for name, seconds in _seconds.items() if seconds > LONG_S)
        FILE.write_text("".join(f"{seconds:.1f} {name}\n" for name, seconds in sorted(long)))
