"""Programs that we did not write, as witnesses: where they are, and what they say."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.conftest import PACKAGES, find_program

_IODS = {
    "Segmentation",
    "Comprehensive3DSR",
    "ParametricMap",
    "GrayscaleSoftcopyPresentationState",
    "SCImage",
    "KeyObjectSelectionDocument",
    "EncapsulatedPDF",
}
"""Those of our objects, as dciodvfy calls them."""


def program(name: str) -> Path:
    """Return the path of a witness; skip the test where it is missing, fail it in CI."""
    found = find_program(name)
    if found is None:
        reason = f"WITNESS MISSING: {name} is not installed ({PACKAGES[name]})"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    return found


def by_hand(name: str, package: str) -> Path:
    """Return the path of a witness that `make witness` installs; skip the test where it is missing.

    Unlike those of `program` it is not installed in CI, for the time that this takes.
    """
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"WITNESS MISSING: {name} is not installed ({package}); `make witness` does it")
    return Path(found)


def said_by(name: str, *arguments: str | Path) -> str:
    """Run a witness and return all that it printed; it must end with status 0."""
    done = subprocess.run(
        [program(name), *arguments], capture_output=True, text=True, timeout=60, check=False
    )
    printed = done.stdout + done.stderr
    assert done.returncode == 0, f"{name} ended with {done.returncode}: {printed}"
    return printed


def faults_found_by_dciodvfy(path: Path) -> list[str]:
    """Return dciodvfy's error lines on one file: the bar that every object must clear."""
    done = subprocess.run(
        [program("dciodvfy"), path], capture_output=True, text=True, timeout=60, check=False
    )
    printed = (done.stdout + done.stderr).splitlines()
    # Its last word is the IOD that it recognised; without that it has checked nothing.
    assert _IODS & set(printed), printed
    return [line for line in printed if "Error" in line]
