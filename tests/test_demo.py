"""`make demo` does what the README promises, and its exit code can be believed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from PIL import Image

ROOT = Path(__file__).parent.parent

pytestmark = pytest.mark.slow


def _demo(work: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "dicom_node.harness.demo", "--work", str(work)]
    command += ["--data", "tests/data", "--engines", "engines", *options]
    return subprocess.run(
        command, capture_output=True, text=True, cwd=ROOT, check=False, timeout=180
    )


def test_the_demo_shows_every_result_and_works_again_and_again(tmp_path: Path) -> None:
    for _ in range(2):
        done = _demo(tmp_path / "demo")
        assert done.returncode == 0, done.stdout + done.stderr
        words = " ".join(done.stdout.split())
        for finding in ("right lung 2072 ml", "pneumonia 0.32 (absent)", "quality diagnostic"):
            assert finding in words
        assert "arm X-ray none matched" in words
    archived = list((tmp_path / "demo" / "archive").rglob("*.dcm"))
    pictures = list((tmp_path / "demo" / "pictures").glob("*.png"))
    assert len(archived) == len(pictures) == 8
    overlay = Image.open(tmp_path / "demo" / "pictures" / "chest-CT-ct_lungs-SEG.png")
    red, _, blue = overlay.convert("RGB").split()
    assert red.histogram() != blue.histogram()  # the source is grey, the segments are not


def test_the_demo_fails_when_an_expected_result_is_missing(tmp_path: Path) -> None:
    rules = yaml.safe_load((ROOT / "config" / "rules.yaml").read_text())
    rules["rules"] = [rule for rule in rules["rules"] if rule["name"] != "lungs-on-ct"]
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(rules))
    done = _demo(tmp_path / "demo", "--rules", str(tmp_path / "rules.yaml"))
    assert done.returncode == 1
    assert "chest CT: 0 results, not 2" in done.stdout
