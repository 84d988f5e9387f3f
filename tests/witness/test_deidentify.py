"""dciodvfy finds nothing in a de-identified copy that it did not find in the original."""

from __future__ import annotations

import re
import subprocess
from functools import cache
from io import BytesIO
from pathlib import Path

import pydicom
import pytest

from dicom_node.coerce.profile import Option
from tests.unit.coerce.copies import a_profile, copied_file
from tests.witness.programs import program

pytestmark = pytest.mark.witness

DATA = Path(__file__).parents[1] / "data"
FOLDERS = ("charsets", "xray", "awkward-series/mr-mixed-orientation", "transfer-syntaxes")
SERIES = ("ct-abdomen-totalsegmentator", "ct-chest-lctsc-011", "mr-t1-studyforrest")
FILES = [
    *(path for folder in FOLDERS for path in sorted((DATA / folder).iterdir())),
    *(sorted((DATA / folder).glob("*.dcm"))[0] for folder in SERIES),
    sorted((DATA / "awkward-series" / "ct-head-tilt-variable-spacing").glob("*.dcm"))[0],
    *(DATA / "malformed" / f"{name}.dcm" for name in ("fo-dicom-GH178", "no-pixel-data")),
]
READABLE = [path for path in FILES if "1.2.1.99" not in path.name]
"""dciodvfy cannot read the deflated transfer syntax."""

OPTIONS = {
    "basic": (),
    "cleaned": (
        Option.CLEAN_DESCRIPTORS,
        Option.CLEAN_GRAPHICS,
        Option.CLEAN_STRUCTURED_CONTENT,
    ),
    "retaining": tuple(set(Option) - {Option.RETAIN_LONGITUDINAL_FULL_DATES}),
}


@cache
def errors_in(path: Path) -> frozenset[str]:
    """Return the errors without the values that they name."""
    done = subprocess.run([program("dciodvfy"), path], capture_output=True, timeout=60, check=False)
    printed = (done.stdout + done.stderr).decode("utf-8", "replace").splitlines()
    return frozenset(
        re.sub(r"= <.*?>|<[\d.]+>|\[.*?\]", "", line) for line in printed if "Error" in line
    )


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("path", READABLE, ids=lambda path: path.name)
def test_a_copy_is_as_valid_as_its_original(
    path: Path, options: tuple[Option, ...], tmp_path: Path
) -> None:
    copy = tmp_path / "copy.dcm"
    copy.write_bytes(copied_file(path.read_bytes(), a_profile(*options))[1])
    assert not errors_in(copy) - errors_in(path)


def test_the_errors_of_a_copy_would_be_found(tmp_path: Path) -> None:
    whole = copied_file(FILES[-3].read_bytes(), a_profile())[1]
    dataset = pydicom.dcmread(BytesIO(whole))
    del dataset.Modality
    broken = tmp_path / "broken.dcm"
    dataset.save_as(broken)
    assert errors_in(broken) - errors_in(FILES[-3])
