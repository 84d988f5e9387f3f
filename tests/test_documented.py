"""Every key, status, SOP Class, command and move stands in the documents."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from typer.main import get_command

from dicom_node.cli.app import app
from dicom_node.config.settings import Config, Peer, ResultsProfile
from dicom_node.lifecycle import (
    BREAKER_MOVES,
    COMMITMENT_MOVES,
    COMPARISON_MOVES,
    DELIVERY_MOVES,
    FETCH_MOVES,
    JOB_MOVES,
    STUDY_MOVES,
    TRIAL_MOVES,
)
from dicom_node.receive.policy import Status

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
OPERATOR = (ROOT / "docs" / "operator.md").read_text()
CONFORMANCE = (ROOT / "docs" / "conformance.md").read_text()
NODE_YAML = (ROOT / "config" / "node.yaml").read_text()

SECTIONS = {
    name: tuple(field.annotation.model_fields)  # type: ignore[union-attr]
    for name, field in Config.model_fields.items()
    if name not in {"peers", "results_profiles"}
} | {"peers": tuple(Peer.model_fields), "results_profiles": tuple(ResultsProfile.model_fields)}


@pytest.mark.parametrize("section", SECTIONS)
def test_every_key_is_explained_in_node_yaml_and_named_for_the_operator(section: str) -> None:
    [row] = [line for line in OPERATOR.splitlines() if line.startswith(f"| `{section}` |")]
    for key in SECTIONS[section]:
        assert re.search(rf"^(# )? *(# )?{key}:", NODE_YAML, re.MULTILINE), key
        assert f"`{key}`" in row


@pytest.mark.parametrize("status", Status)
def test_every_status_that_we_answer_is_explained(status: Status) -> None:
    assert f"0x{status:04X}" in CONFORMANCE
    assert status is Status.SUCCESS or f"0x{status:04X}" in OPERATOR


def test_every_command_stands_in_the_readme() -> None:
    commands = get_command(app).commands  # type: ignore[attr-defined]
    assert len(commands) >= 6
    for name in commands:
        assert f"| `dicom-node {name}" in README


def test_exactly_the_moves_of_the_tables_are_printed_for_the_operator() -> None:
    lines = [line.strip() for line in OPERATOR.splitlines() if re.search(r"\w --\w+--> \w", line)]
    tables = (
        *(STUDY_MOVES, JOB_MOVES, DELIVERY_MOVES, BREAKER_MOVES, COMMITMENT_MOVES, FETCH_MOVES),
        *(TRIAL_MOVES, COMPARISON_MOVES),
    )
    moves = [move for table in tables for move in table.items()]
    assert lines == [f"{state} --{event}--> {target}" for (state, event), target in moves]
