"""The heaviest engine on a whole head: a minute of work, done once a run."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydicom import Dataset

from dicom_node.finding import Finding
from dicom_node.infer.engine_loading import load_engine
from tests.once import once_a_run

ENGINE = Path(__file__).parents[2] / "engines" / "mr_brain"
SERIES = Path(__file__).parents[1] / "data" / "mr-t1-studyforrest"

EngineRun = tuple[Finding, tuple[Dataset, ...]]
"""What an engine found, and the headers of what it looked at."""


def whole_brain(tmp_path_factory: pytest.TempPathFactory) -> EngineRun:
    return once_a_run(
        tmp_path_factory,
        "whole_brain",
        lambda: load_engine(ENGINE, threads=2).run(sorted(SERIES.glob("*.dcm"))),
    )
