"""`dicom-node check`: everything that is wrong, at once, with file and line."""

from __future__ import annotations

from pathlib import Path

import pytest

from dicom_node.harness.archive import Archive
from tests.unit.cli.sites import ROOT, Site
from tests.unit.infer.engine_folders import CLASSIFICATION, write_engine


def test_the_configuration_of_this_repository_has_no_mistake(site: Site) -> None:
    result = site.call("check", "--no-echo")
    assert result.exit_code == 0
    assert result.output == "configuration, rules and engines: no mistake\n"


def test_the_example_has_no_mistake(site: Site) -> None:
    site.config = ROOT / "config" / "node.yaml"
    assert site.call("check", "--no-echo").exit_code == 0


def plant(site: Site) -> tuple[Path, Path]:
    """Plant mistakes into the configuration, the rules and one of two engines."""
    engines, rules = site.folder / "engines", site.folder / "rules.yaml"
    write_engine(engines, CLASSIFICATION, name="good")
    broken = write_engine(engines, CLASSIFICATION, name="broken", version="one")
    rules.write_text(
        "rules:\n"
        "  - name: all\n"
        "    when: {Modalty: CT}\n"
        "    engines: [good, broken, missing]\n"
        "    destinations: [pacs]\n",
        "utf-8",
    )
    site.config.write_text(
        "node:\n"
        "  data_dir: data\n"
        "  engines_dir: engines\n"
        "peers:\n"
        "  archive: {ae_title: ARCHIVE, host: 127.0.0.1, port: 1}\n"
        "  nobody: {ae_title: NOBODY}\n",
        "utf-8",
    )
    return broken / "engine.yaml", rules


def test_mistakes_of_all_three_kinds_of_file_come_at_once_with_file_and_line(site: Site) -> None:
    engine, rules = plant(site)
    result = site.call("check", "--no-echo")
    assert result.exit_code == 1
    lines = result.output.splitlines()
    line = engine.read_text("utf-8").splitlines().index("version: one") + 1
    places = [
        f"{site.config}:6: peers.nobody: ",
        f"{site.config}:4: peers: ",
        f"{engine}:{line}: version: ",
        f"{rules}:3: rules.0.when.Modalty: ",
        f"{rules}:4: rules.0.engines.2: ",
        f"{rules}:5: rules.0.destinations.0: ",
    ]
    for place in places:
        assert [found for found in lines if found.startswith(place)], (place, result.output)
    assert lines[-1].endswith("mistake(s); nothing was changed")


def test_a_value_of_the_wrong_type_does_not_hide_the_mistakes_of_other_files(site: Site) -> None:
    engine, rules = plant(site)
    with site.config.open("a", encoding="utf-8") as file:
        file.write("receive: {port: x}\n")
    lines = site.call("check", "--no-echo").output.splitlines()
    for place in (f"{site.config}:7: receive.port: ", f"{engine}:", f"{rules}:3: "):
        assert [line for line in lines if line.startswith(place)], place


def test_a_broken_engine_is_not_called_unknown_and_neither_are_the_good_ones(site: Site) -> None:
    """One typo in one engine.yaml must not send the operator into his rules."""
    _, rules = plant(site)
    lines = site.call("check", "--no-echo").output.splitlines()
    about_engines = [line for line in lines if line.startswith(f"{rules}:4:")]
    assert len(about_engines) == 1
    assert "there is no engine called missing" in about_engines[0]


def test_a_configuration_that_cannot_be_read_is_one_mistake(site: Site) -> None:
    site.config.unlink()
    result = site.call("check", "--no-echo")
    assert result.exit_code == 1
    assert f"{site.config}:0: cannot be read: No such file or directory" in result.output


def test_rules_that_cannot_be_read_are_a_mistake(site: Site) -> None:
    text = site.config.read_text("utf-8")
    site.config.write_text(text.replace(str(ROOT / "config" / "rules.yaml"), "no.yaml"), "utf-8")
    result = site.call("check", "--no-echo")
    assert result.exit_code == 1
    assert f"{site.folder / 'no.yaml'}:0: cannot be read" in result.output


def test_engines_that_are_nowhere_are_a_mistake_at_the_line_of_their_key(site: Site) -> None:
    text = site.config.read_text("utf-8").replace(str(ROOT / "engines"), "nowhere")
    site.config.write_text(text, "utf-8")
    result = site.call("check", "--no-echo")
    assert result.exit_code == 1
    where = f"{site.config}:3: node.engines_dir: "
    assert f"{where}{site.folder / 'nowhere'} is no folder" in result.output


def test_a_runtime_for_no_engine_is_a_mistake_at_its_line(site: Site) -> None:
    text = site.config.read_text("utf-8")
    named = "  runtime: onnxruntime\n  runtimes:\n    my_engine: openvino\n"
    site.config.write_text(text.replace("  runtime: onnxruntime\n", named), "utf-8")
    result = site.call("check", "--no-echo")
    assert result.exit_code == 1
    line = text.splitlines().index("  runtime: onnxruntime") + 3
    where = f"{site.config}:{line}: infer.runtimes.my_engine: "
    assert f"{where}there is no engine of that name" in result.output


UNUSABLE_URLS = [
    "nonsense",
    "mysql://host/db",
    "sqlite+nothing:///x",
    "postgresql+psycopg2://node@host/db",  # another driver than ours
]


def with_ledger(site: Site, url: str) -> None:
    with site.config.open("a", encoding="utf-8") as file:
        file.write(f"ledger:\n  url: '{url}'\n")


@pytest.mark.parametrize("url", UNUSABLE_URLS)
def test_a_ledger_url_that_cannot_be_used_is_a_mistake(url: str, site: Site) -> None:
    with_ledger(site, url)
    result = site.call("check", "--no-echo")
    assert result.exit_code == 1
    assert "ledger.url" in result.output


@pytest.mark.parametrize("url", UNUSABLE_URLS)
def test_no_other_command_ends_in_a_traceback_over_it(url: str, site: Site) -> None:
    with_ledger(site, url)
    result = site.call("status")
    assert result.exit_code == 2
    assert "ledger.url" in result.output


@pytest.mark.parametrize("url", ["mysql://node:secret@host/db", "node:secret@host/db"])
def test_a_password_in_the_ledger_url_is_never_printed(url: str, site: Site) -> None:
    with_ledger(site, url)
    assert "secret" not in site.call("check", "--no-echo").output
    assert "secret" not in site.call("status").output


def test_each_peer_with_an_address_is_asked_by_c_echo(site: Site, tmp_path: Path) -> None:
    with Archive(tmp_path / "archive") as archive:
        site = Site(tmp_path, archive.port)
        result = site.call("check")
        assert result.exit_code == 0
        assert "peer archive: ARCHIVE answers the C-ECHO" in result.output


def test_a_peer_that_does_not_answer_fails_the_check_and_says_what_to_look_at(
    tmp_path: Path, free_port: int
) -> None:
    result = Site(tmp_path, free_port).call("check")
    assert result.exit_code == 1
    assert f"peer archive: ARCHIVE at 127.0.0.1 port {free_port} cannot be reached" in (
        result.output
    )
    assert "-> " in result.output


def test_an_archive_that_may_not_send_could_not_answer_a_c_move(site: Site) -> None:
    rules = site.folder / "rules.yaml"
    rules.write_text(
        "rules:\n"
        "  - name: lungs\n"
        "    when: {}\n"
        "    engines: [ct_lungs]\n"
        "    destinations: [archive]\n"
        "    priors: {from: archive}\n",
        "utf-8",
    )
    text = site.config.read_text("utf-8")
    site.config.write_text(text.replace(str(ROOT / "config" / "rules.yaml"), str(rules)), "utf-8")
    result = site.call("check", "--no-echo")
    assert result.exit_code == 1
    assert f"{rules}:6: rules.0.priors.from: archive is asked by C-MOVE" in result.output
    with site.config.open("a", encoding="utf-8") as file:
        file.write("    retrieve: get\n")
    assert site.call("check", "--no-echo").exit_code == 0
