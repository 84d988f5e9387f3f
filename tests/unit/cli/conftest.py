from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from tests.unit.cli.sites import Site


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


@pytest.fixture(autouse=True)
def logs_as_they_were() -> Iterator[None]:
    """Undo what a command sets for its whole process: where logs go, which warnings are shown."""
    with warnings.catch_warnings():
        yield
    structlog.reset_defaults()
