"""What the tests of the door ask for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.certificates import Certificates
from tests.unit.receive.handshakes import Door, Line


@pytest.fixture
def line() -> Iterator[Line]:
    opened = Line()
    yield opened
    opened.close()


@pytest.fixture
def door(certificates: Certificates, tmp_path: Path) -> Door:
    return Door(certificates, tmp_path / "etc")
