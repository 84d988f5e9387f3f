"""No runtime reports to its maker."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[4]
RUN_AN_ENGINE = """
from pathlib import Path
from dicom_node.infer.engine import load_engine
load_engine(Path("engines/cxr_quality"), threads=1)
"""


def test_onnxruntime_leaves_no_identifier_of_the_machine_for_its_maker(tmp_path: Path) -> None:
    """Its telemetry begins with a device ID below the home folder (seen with 1.32)."""
    environment = {k: v for k, v in os.environ.items() if k != "ORT_DISABLE_TELEMETRY"}
    environment |= {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    subprocess.run([sys.executable, "-c", RUN_AN_ENGINE], cwd=ROOT, env=environment, check=True)
    assert [file for file in tmp_path.rglob("*") if file.is_file()] == []
