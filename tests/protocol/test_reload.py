"""A running node takes up changed rules as a whole, or says why not and goes on with the old."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner, Result

from dicom_node.cli.app import app
from dicom_node.harness.scanner import send
from dicom_node.model import Study
from tests.factories import make_xray, write
from tests.node_process import NodeProcess, wait_until

NOTHING = "rules: []\n"
NOTED = "rules: [{name: noted, when: {Modality: CR}, notify: an X-ray came}]\n"
BROKEN = "rules: [{name: noted, when: {Modalty: CR}, notify: an X-ray came}]\n"


@pytest.fixture
def node(tmp_path: Path, free_port: int) -> Iterator[NodeProcess]:
    rules = tmp_path / "rules.yaml"
    rules.write_text(NOTHING)
    node = NodeProcess(tmp_path / "node", free_port, node={"rules_file": str(rules)})
    node.start()
    yield node
    node.stop()


def call(node: NodeProcess, *arguments: str) -> Result:
    return CliRunner().invoke(app, [*arguments, "--config", str(node.config_file)])


def routed(node: NodeProcess, study_instance_uid: str) -> Study:
    """Send an X-ray; return its study once it is routed."""
    file = write(
        make_xray(StudyInstanceUID=study_instance_uid),
        node.folder / f"{study_instance_uid}.dcm",
    )
    send([file], "127.0.0.1", node.port, calling="SCANNER", called="DICOM_NODE")
    ledger = node.ledger()

    def is_routed() -> bool:
        study = ledger.studies.get(study_instance_uid)
        return study is not None and study.state == "ROUTED"

    wait_until(is_routed, 60.0, "routing")
    study = ledger.studies.get(study_instance_uid)
    ledger.close()
    assert study is not None
    return study


def test_changed_rules_are_in_force_after_a_reload_and_replay_tells_before(
    node: NodeProcess, tmp_path: Path
) -> None:
    assert routed(node, "1.2.1").reason == "no rule matched ()"
    (tmp_path / "rules.yaml").write_text(NOTED)

    replayed = call(node, "rules", "replay", "--json")
    assert replayed.exit_code == 0, replayed.output
    found = json.loads(replayed.output)
    assert found["studies"] == 1
    assert found["rules"]["noted"]["gained"] == ["1.2.1"]
    assert found["changed"] == ["1.2.1"]

    reloaded = call(node, "reload")
    assert reloaded.exit_code == 0
    assert reloaded.output.strip() == "1 rules: noted"
    routed(node, "1.2.2")
    refused = call(node, "status", "--refused").output
    assert "study 1.2.2: rule noted: an X-ray came" in refused
    assert "study 1.2.1" not in refused  # what is routed keeps the rules that it was routed by


def test_a_mistake_leaves_the_old_rules_in_force(node: NodeProcess, tmp_path: Path) -> None:
    (tmp_path / "rules.yaml").write_text(NOTED)
    assert call(node, "reload").exit_code == 0
    (tmp_path / "rules.yaml").write_text(BROKEN)
    refused = call(node, "reload")
    assert refused.exit_code == 2  # found before the node was told
    assert "Modalty is no DICOM keyword" in refused.output
    node.hang_up()
    ledger = node.ledger()
    wait_until(lambda: bool(ledger.events.named("RELOAD_REFUSED")), 30.0, "the refusal")
    [event] = ledger.events.named("RELOAD_REFUSED")
    ledger.close()
    assert "Modalty" in event.reason
    assert event.reason.endswith("the old configuration goes on")
    routed(node, "1.2.3")
    assert "study 1.2.3: rule noted" in call(node, "status", "--refused").output


def test_what_needs_a_restart_is_refused_with_its_key(node: NodeProcess) -> None:
    settings = yaml.safe_load(node.config_file.read_text())
    settings["infer"]["job_timeout_s"] = 7
    node.config_file.write_text(yaml.safe_dump(settings))
    refused = call(node, "reload")
    assert refused.exit_code == 1
    assert "infer.job_timeout_s" in refused.output
    assert "restart" in refused.output


def test_without_a_node_there_is_nothing_to_reload(tmp_path: Path, free_port: int) -> None:
    rules = tmp_path / "rules.yaml"
    rules.write_text(NOTHING)
    node = NodeProcess(tmp_path / "node", free_port, node={"rules_file": str(rules)})
    node.start()
    node.stop()
    stopped = call(node, "reload")
    assert stopped.exit_code == 1
    assert "no node runs" in stopped.output
