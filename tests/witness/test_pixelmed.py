"""PixelMed's validator over a report of each kind: templates row by row, context groups, order.

It is what the IHE Connectathon uses for AI Results. It needs a JDK and half a minute to start, so
`make witness` runs it, and `make test` only where it is installed.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pydicom
import pytest

from tests.witness.kinds import write_one_of_each
from tests.witness.programs import by_hand

pytestmark = [pytest.mark.witness, pytest.mark.slow]

PIXELMED = Path("/usr/share/java/pixelmed.jar")
VALIDATE = Path(__file__).parent / "pixelmed" / "Validate.java"
NO_LIMITS = [f"-Djdk.xml.xpath{name}Limit=0" for name in ("TotalOp", "ExprOp", "ExprGrp")]
"""A JDK of 2021 and later stops stylesheets of this size."""

PLANTED = "planted"

FALSE_ALARMS = (
    # PS3.16 CID 100 got this code after 2022.
    r'Code \(43468-8,LN,"XR unspecified body region"\) not found in context group 100',
)


def without_false_alarms(said: str) -> list[str]:
    errors = [line for line in said.splitlines() if line.startswith("Error")]
    return [one for one in errors if not any(re.search(known, one) for known in FALSE_ALARMS)]


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Return what the validator says of each report, by its name."""
    java = by_hand("javac", "Debian's default-jdk-headless").with_name("java")
    if not PIXELMED.exists():
        by_hand("DicomSRValidator", "Debian's pixelmed-apps")
    paths = write_one_of_each(tmp_path_factory.mktemp("pixelmed"))
    reports = [path for name, path in paths.items() if not name.endswith("-SEG")]
    planted = pydicom.dcmread(paths["segments-SR"])
    [procedure] = [
        item
        for item in planted.ContentSequence
        if item.ConceptNameCodeSequence[0].CodeValue == "121058"
    ]
    procedure.ConceptCodeSequence[0].CodeValue = "77477000"
    procedure.ConceptCodeSequence[0].CodingSchemeDesignator = "SCT"
    reports.append(paths["segments-SR"].with_name(f"{PLANTED}.dcm"))
    planted.save_as(reports[-1])
    done = subprocess.run(
        [java, *NO_LIMITS, "-cp", PIXELMED, VALIDATE, *reports],
        capture_output=True,
        text=True,
        timeout=280,
        check=True,
    )
    _, *told = re.split(r"^=== (.*)$", done.stdout, flags=re.MULTILINE)
    return {Path(name).stem: words for name, words in zip(told[::2], told[1::2], strict=True)}


def test_it_finds_no_error_in_any_report(said: dict[str, str]) -> None:
    assert len(said) == 14
    for name, words in said.items():
        if name == PLANTED:
            continue
        root = "KeyObjectSelection" if name.endswith("REJECTION") else "MeasurementReport"
        assert f"({root})" in words, name
        assert "Root Template Validation Complete" in words, name
        assert "IOD validation complete" in words, name
        assert without_false_alarms(words) == [], name


def test_it_finds_a_planted_error(said: dict[str, str]) -> None:
    """SNOMED's code for computed tomography is not in the context group of procedures."""
    [error] = without_false_alarms(said[PLANTED])
    assert "Code (77477000,SCT" in error
    assert "not found in context group 100" in error
