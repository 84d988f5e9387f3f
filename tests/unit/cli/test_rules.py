"""`dicom-node rules`: what the commands say, and how they end."""

from __future__ import annotations

from pathlib import Path

import yaml

from dicom_node.ledger.routing import Plan
from tests.factories import make_xray, write
from tests.unit.cli.sites import Site
from tests.unit.ledger import rows


def write_rules(site: Site, *rules: dict[str, object]) -> None:
    settings = yaml.safe_load(site.config.read_text())
    settings["node"]["rules_file"] = str(site.folder / "my-rules.yaml")
    site.config.write_text(yaml.safe_dump(settings))
    (site.folder / "my-rules.yaml").write_text(yaml.safe_dump({"rules": list(rules)}))


def test_rules_in_order_have_nothing_to_look_at(site: Site) -> None:
    result = site.call("rules", "lint")
    assert result.exit_code == 0
    assert result.output.strip() == "3 rules, nothing to look at"


def test_a_shadowed_rule_is_told_and_the_command_fails(site: Site) -> None:
    write_rules(
        site,
        {"name": "noted", "when": {"Modality": "CT"}, "notify": "a CT"},
        {"name": "gone", "when": {}, "drop": "of no use"},
    )
    result = site.call("rules", "lint")
    assert result.exit_code == 1
    assert "noted, gone: gone drops whatever noted matches" in result.output
    assert "2 rules, 1 to look at" in result.output


def test_every_condition_is_shown_with_its_value(site: Site, tmp_path: Path) -> None:
    file = write(make_xray(ViewPosition="LL"), tmp_path / "x.dcm")
    result = site.call("rules", "explain", file)
    assert result.exit_code == 0
    assert "rule chest-x-ray does not match: ViewPosition is LL, not PA or AP" in result.output
    assert "    + Modality is CR" in result.output
    assert "    - ViewPosition is LL, not PA or AP" in result.output


def test_without_history_there_is_nothing_to_replay(site: Site) -> None:
    folder = site.folder / "data"
    folder.mkdir()
    rows.new_ledger(folder).close()
    result = site.call("rules", "replay")
    assert result.exit_code == 1
    assert "no study was routed yet" in result.output


def test_a_span_of_time_that_is_none_is_a_mistake(site: Site) -> None:
    folder = site.folder / "data"
    folder.mkdir()
    ledger = rows.new_ledger(folder)
    study = rows.complete(ledger, rows.an_instance())
    rule_set = ledger.routing.keep_rule_set("rules: []\n", 250.0)
    assert ledger.routing.record(study, Plan("nothing matched", rule_set, "", {}), 300.0)
    ledger.close()
    result = site.call("rules", "replay", "--since", "a month")
    assert result.exit_code == 2
    assert "write 30d, 12h or 90m" in result.output
