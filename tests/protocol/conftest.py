"""A node to be attacked; one for all tests of a module."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.protocol.hostile import NodeUnderFire


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeUnderFire]:
    """Return a whole node; its `case` runs an attack and then looks whether anything is amiss."""
    running = NodeUnderFire(tmp_path_factory.mktemp("hostile"))
    running.start()
    yield running
    assert running.stop() == 0
