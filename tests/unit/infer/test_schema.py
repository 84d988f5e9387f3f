"""The published schema is that of the code, in the words of the guide, and judges as the node."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from dicom_node.infer.engine_folders import load_manifest
from dicom_node.infer.schema import as_text, manifest_schema, words_of
from tests.unit.infer.bad_manifests import SEEN_BY_THE_SCHEMA, UNSEEN, Spoil, spoilt
from tests.unit.infer.engine_folders import (
    CLASSIFICATION,
    QUALITY,
    REGRESSION,
    SEGMENTATION,
    write_engine,
)

ROOT = Path(__file__).parents[3]
GUIDE = (ROOT / "docs" / "engines.md").read_text("utf-8")
PUBLISHED = ROOT / "docs" / "engine.schema.json"
SCHEMA = manifest_schema(GUIDE)
JUDGE = Draft202012Validator(SCHEMA)
BUNDLED = sorted(ROOT.glob("engines/*/engine.yaml"))


def faults(written: Any) -> list[str]:
    return [error.message for error in JUDGE.iter_errors(written)]


def test_what_is_published_is_what_the_code_says() -> None:
    assert PUBLISHED.read_text("utf-8") == as_text(SCHEMA), "make schema"


def test_it_is_a_schema() -> None:
    Draft202012Validator.check_schema(SCHEMA)


def properties() -> Iterator[tuple[str, dict[str, Any]]]:
    for part in (SCHEMA, *SCHEMA["$defs"].values()):
        yield from part.get("properties", {}).items()


def test_every_key_has_the_words_of_the_guide() -> None:
    told = list(properties())
    assert len(told) > 80
    assert [key for key, described in told if not described.get("description")] == []
    assert SCHEMA["$defs"]["Components"]["properties"]["connectivity"]["description"] == (
        "26: corners join; 6: only faces do"
    )
    classes = SCHEMA["$defs"]["ClassLabel"]["properties"]
    assert "disease" in classes["code"]["description"]
    assert "folder" not in SCHEMA["properties"]


def test_the_same_key_has_other_words_in_another_block() -> None:
    words = words_of(GUIDE)
    assert words["window", "size"] != words["volume", "size"] != words["image", "size"]
    assert words["", "name"] != words["segments", "name"]


@pytest.mark.parametrize("file", BUNDLED, ids=[file.parent.name for file in BUNDLED])
def test_the_bundled_engines_are_right_and_name_the_schema(file: Path) -> None:
    text = file.read_text("utf-8")
    assert faults(yaml.safe_load(text)) == []
    named = text.splitlines()[0].removeprefix("# yaml-language-server: $schema=")
    assert (file.parent / named).resolve() == PUBLISHED


RICH: dict[str, dict[str, Any]] = {
    "percentiles": {"intensity": {"values": "brightness", "scale": {"low": "p0.5", "high": 99}}},
    "numbers for names": {"components": {"keep": 3, "fill_holes": "slices", "smooth_mm": 1.5}},
    "conditions": {
        "accepts": {
            "Modality": ["CT", "PT"],
            "ContrastBolusAgent": "absent",
            "KVP": {"is": ["80 .. 140", "<= 60"], "missing": "holds"},
            "SeriesNumber": 3,
        }
    },
    "gaps": {"volume": SEGMENTATION["volume"] | {"spacing_mm": [None, 1, 0.5], "axes": "LFA"}},
    "measurements": {"measurements": ["volume", "diameters", "mean_value"]},
    "mirrors": {"model": SEGMENTATION["model"] | {"mirrors": [[1], [1, 2]]}},
}


@pytest.mark.parametrize("name", RICH)
def test_values_of_their_own_form_are_right_in_both(name: str, tmp_path: Path) -> None:
    written = SEGMENTATION | RICH[name]
    assert faults(written) == []
    load_manifest(write_engine(tmp_path, written))


@pytest.mark.parametrize("written", [SEGMENTATION, CLASSIFICATION, QUALITY, REGRESSION])
def test_the_engines_of_the_tests_are_right(written: dict[str, Any]) -> None:
    assert faults(written) == []


@pytest.mark.parametrize(("written", "spoil", "message"), SEEN_BY_THE_SCHEMA)
def test_what_the_node_refuses_is_wrong_in_an_editor(
    written: dict[str, Any], spoil: Spoil, message: str
) -> None:
    assert faults(spoilt(written, spoil)), message


@pytest.mark.parametrize(("written", "spoil", "message"), UNSEEN)
def test_what_no_schema_can_see_is_left_to_the_node(
    written: dict[str, Any], spoil: Spoil, message: str
) -> None:
    assert not faults(spoilt(written, spoil)), message


def test_published_text_is_json() -> None:
    assert json.loads(PUBLISHED.read_text("utf-8")) == SCHEMA
