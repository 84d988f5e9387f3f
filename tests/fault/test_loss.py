"""Kill -9 at random moments under the load of four associations: nothing acknowledged is lost."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.bench.bench_loss import run

pytestmark = pytest.mark.slow


def test_nothing_acknowledged_is_lost_or_altered_by_kills_at_random_moments(
    tmp_path: Path,
) -> None:
    """`python -m tests.bench.bench_loss` does the same two hundred times."""
    seed = random.SystemRandom().randrange(1 << 32)
    outcome = run(tmp_path, kills=6, seed=seed)
    assert outcome.acknowledged > 100, f"seed {seed}"
    assert (outcome.lost, outcome.altered) == ([], []), f"seed {seed}"
