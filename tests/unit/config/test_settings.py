"""The configuration: every mistake at once with its line; the defaults are those explained."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from pydantic import BaseModel, ValidationError

from dicom_node.config.loading import load_config
from dicom_node.config.settings import RESULTS_PROFILES, AssembleSettings, Config, Peer
from dicom_node.encode.profiles import PROFILES, Kind, Profile, profiles_of
from dicom_node.errors import ConfigError, Mistake

ROOT = Path(__file__).parents[3]
A_SENDER = "peers:\n  ct:\n    ae_title: CT1\n    may_send: true\n"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "node.yaml"


def load(file: Path, text: str) -> Config:
    file.write_text(text, "utf-8")
    return load_config(file)


def mistakes_in(file: Path, text: str) -> list[tuple[int, str, str]]:
    with pytest.raises(ConfigError) as caught:
        load(file, text)
    assert {mistake.file for mistake in caught.value.mistakes} == {str(file)}
    return [(m.line, m.key, m.message) for m in caught.value.mistakes]


def test_the_smallest_configuration_is_one_sender(file: Path) -> None:
    config = load(file, A_SENDER)
    assert config.peers == {"ct": Peer(ae_title="CT1", may_send=True)}
    assert config.destinations == {}
    assert config.receive.port == 11112
    assert not config.receive.admit_unknown_calling_ae_titles


def test_every_mistake_is_found_at_once_with_its_line_and_key(file: Path) -> None:
    text = """\
node:
  ae_title: MUCH_TOO_LONG_FOR_AN_AE
  log_level: loud
receive:
  port: 70000
  idle_timeout: 60
  extra_sop_classes: [1.2.3, not-a-uid]
infer:
  crashes_max: 0
delivery:
  timeout_s: 1
peers:
  pacs:
    may_send: true
  other:
    ae_title: A\\B
    port: x
"""
    found = mistakes_in(file, text)
    assert [(line, key) for line, key, _ in found] == [
        (2, "node.ae_title"),
        (3, "node.log_level"),
        (5, "receive.port"),
        (7, "receive.extra_sop_classes.1"),
        (6, "receive.idle_timeout"),
        (9, "infer.crashes_max"),
        (13, "peers.pacs.ae_title"),
        (16, "peers.other.ae_title"),
        (17, "peers.other.port"),
        (10, "delivery"),
    ]
    messages = {key: message for _, key, message in found}
    assert messages["node.ae_title"] == "must be 1 to 16 printable characters without a backslash"
    assert messages["receive.idle_timeout"] == "no such key"
    assert messages["delivery"] == "no such key"
    assert messages["receive.extra_sop_classes.1"].startswith("must be a UID")
    assert "65535" in messages["receive.port"]


def test_a_key_that_stands_twice_is_a_mistake(file: Path) -> None:
    text = A_SENDER + "receive:\n  port: 104\n  port: 11112\n"
    assert mistakes_in(file, text) == [(7, "receive.port", "stands twice")]


@pytest.mark.parametrize(
    ("peers", "line", "key", "message"),
    [
        ("peers: {}", 1, "peers", "nobody could send"),
        ("node:\n  ae_title: X", 1, "peers", "nobody could send"),
        (
            "peers:\n  pacs: {ae_title: A, host: h, port: 104}",
            1,
            "peers",
            "nobody could send",
        ),
        ("peers:\n  a: {ae_title: A, may_send: true, host: h}", 2, "peers.a", "both host and port"),
        ("peers:\n  a: {ae_title: A, may_send: true, port: 104}", 2, "peers.a", "both host"),
        (
            "peers:\n  a: {ae_title: A, may_send: true, hours: '22:00-06:00'}",
            2,
            "peers.a.hours",
            "means nothing without host and port",
        ),
        (
            f"{A_SENDER}  b: {{ae_title: B}}",
            5,
            "peers.b",
            "neither may send nor has an address",
        ),
        (
            f"{A_SENDER}    rejection_note: true",
            5,
            "peers.ct.rejection_note",
            "means nothing without host and port",
        ),
        (
            f"{A_SENDER}    stow_token_file: t",
            5,
            "peers.ct.stow_token_file",
            "means nothing without stow_url",
        ),
        (
            f"{A_SENDER}    stow_authorities: t",
            5,
            "peers.ct.stow_authorities",
            "means nothing without stow_url",
        ),
        (
            f"{A_SENDER}    stow_url: ftp://pacs",
            5,
            "peers.ct.stow_url",
            "must be a URL",
        ),
        (
            f"{A_SENDER}    stow_url: https://me:secret@pacs/dicom-web",
            5,
            "peers.ct.stow_url",
            "name no user",
        ),
        (
            f"{A_SENDER}    stow_url: https://pacs/dicom-web?key=secret",
            5,
            "peers.ct.stow_url",
            "must be the root of the services",
        ),
        (
            f"{A_SENDER}    stow_url: http://pacs/\n    stow_password_file: p",
            6,
            "peers.ct.stow_password_file",
            "would be sent in clear text",
        ),
        (
            f"{A_SENDER}    stow_url: https://p/\n    stow_token_file: t\n"
            "    stow_password_file: p",
            7,
            "peers.ct.stow_password_file",
            "a token or a password, not both",
        ),
        (
            f"{A_SENDER}  b: {{ae_title: B, stow_url: 'https://p', answers_find: true}}",
            5,
            "peers.b.answers_find",
            "needs host and port to ask it at",
        ),
    ],
)
def test_what_pydantic_does_not_see_is_found_as_well(
    peers: str, line: int, key: str, message: str, file: Path
) -> None:
    [(found_line, found_key, found_message)] = mistakes_in(file, peers)
    assert (found_line, found_key) == (line, key)
    assert message in found_message


def test_a_peer_with_a_stow_url_is_a_destination_that_is_asked_for_nothing(file: Path) -> None:
    config = load(
        file,
        f"{A_SENDER}  web: {{ae_title: WEB, stow_url: 'http://localhost:8042/dicom-web', "
        "stow_token_file: web.token}\n  pacs: {ae_title: PACS, host: h, port: 104}",
    )
    assert set(config.destinations) == {"web", "pacs"}
    assert set(config.called) == {"pacs"}
    assert config.not_called == {"web"}
    assert config.peers["web"].stow_token_file == file.parent / "web.token"


@pytest.mark.parametrize("devices", ["auto", ["cpu"], ["cpu", "cpu", 0], [1, 0]])
def test_a_worker_process_each_for_these_devices(
    devices: str | list[str | int], file: Path
) -> None:
    config = load(file, f"{A_SENDER}infer: {{devices: {devices}}}\n")
    assert config.infer.devices == (devices if isinstance(devices, str) else tuple(devices))


@pytest.mark.parametrize(
    ("devices", "message"),
    [
        ("[]", "must be auto or a list of cpu and the numbers of GPUs"),
        ("gpu", "must be auto or a list"),
        ("[cuda]", "must be auto or a list"),
        ("[true]", "must be auto or a list"),
        ("[-1]", "must be auto or a list"),
        ("[0, cpu, 0]", "must name each GPU once"),
    ],
)
def test_what_is_no_list_of_devices_is_a_mistake(devices: str, message: str, file: Path) -> None:
    [(_, key, found)] = mistakes_in(file, f"{A_SENDER}infer: {{devices: {devices}}}\n")
    assert key == "infer.devices"
    assert found.startswith(message)


A_DESTINATION = "peers:\n  a: {{ae_title: A, may_send: true, host: h, port: 104, {}}}\n"


@pytest.mark.parametrize(
    ("written", "hours"),
    [
        ("22:00-06:00", ("22:00-06:00",)),
        ("'00:00-23:59'", ("00:00-23:59",)),
        ("['12:00-13:30', '22:00-06:00']", ("12:00-13:30", "22:00-06:00")),
        ("[]", ()),
    ],
)
def test_hours_are_one_window_or_several(written: str, hours: tuple[str, ...], file: Path) -> None:
    assert load(file, A_DESTINATION.format(f"hours: {written}")).peers["a"].hours == hours


@pytest.mark.parametrize(
    "written", ["22-06", "'24:00-06:00'", "'22:00 - 06:00'", "'6:00-22:00'", "'06:00-06:00'", "7"]
)
def test_hours_that_are_none_are_a_mistake(written: str, file: Path) -> None:
    [(_, key, _), *_] = mistakes_in(file, A_DESTINATION.format(f"hours: {written}"))
    assert key.startswith("peers.a.hours")


@pytest.mark.parametrize(
    "written",
    ["proof: maybe", "read_back: all", "read_back_share: 1.5", "instances_per_minute: 0"],
)
def test_a_policy_that_there_is_not_is_a_mistake(written: str, file: Path) -> None:
    [(_, key, _)] = mistakes_in(file, A_DESTINATION.format(written))
    assert key == f"peers.a.{written.split(':')[0]}"


def test_admitting_everyone_needs_no_sender(file: Path) -> None:
    config = load(file, "receive:\n  admit_unknown_calling_ae_titles: true\n")
    assert config.peers == {}


@pytest.mark.parametrize("text", ["- a\n- b\n", "just text\n", "7\n"])
def test_a_file_that_is_no_mapping_says_so(text: str, file: Path) -> None:
    assert mistakes_in(file, text) == [(1, "", "must be a mapping of sections")]


def test_a_section_whose_keys_are_all_commented_out_has_its_defaults(file: Path) -> None:
    config = load(file, f"receive:\n  # port: 104\ninfer:\n{A_SENDER}")
    assert config.receive == Config().receive
    assert config.infer == Config().infer


def test_paths_start_from_the_folder_of_the_file_and_not_from_where_we_are(
    tmp_path: Path,
) -> None:
    (tmp_path / "etc").mkdir()
    text = f"node:\n  data_dir: ../data\n  rules_file: my-rules.yaml\n{A_SENDER}"
    config = load(tmp_path / "etc" / "node.yaml", text)
    assert config.node.data_dir == tmp_path / "data"
    assert config.node.rules_file == tmp_path / "etc" / "my-rules.yaml"
    assert config.node.engines_dir == tmp_path / "engines"
    assert config.ledger_url == f"sqlite:///{tmp_path / 'data' / 'ledger.sqlite'}"


def test_an_absolute_path_and_a_ledger_url_stay_as_written(file: Path) -> None:
    url = "postgresql+psycopg://node@db/ledger"
    text = f"node:\n  data_dir: /srv/node\nledger:\n  url: {url}\n{A_SENDER}"
    config = load(file, text)
    assert config.node.data_dir == Path("/srv/node")
    assert config.ledger_url == url


def test_a_destination_is_a_peer_with_an_address(file: Path) -> None:
    text = f"{A_SENDER}  pacs:\n    ae_title: ' PACS '\n    host: pacs.example\n    port: 104\n"
    config = load(file, text)
    assert list(config.destinations) == ["pacs"]
    assert config.destinations["pacs"].ae_title == "PACS"


def test_the_configuration_cannot_be_changed(file: Path) -> None:
    config = load(file, A_SENDER)
    with pytest.raises(ValidationError, match="frozen"):
        config.receive.port = 104


@pytest.mark.parametrize(
    "written",
    [
        "receive: {idle_timeout_s: 0}",
        "receive: {port: -1}",
        "receive: {pdu_bytes_max: 100}",
        "receive: {free_bytes_min: -1}",
        "receive: {associations_max: 0}",
        "assemble: {quiet_after_release_s: -1}",
        "infer: {threads: 0}",
        "infer: {attempts_max: 0}",
        "infer: {job_timeout_s: soon}",
        "deliver: {give_up_after_h: 0}",
        "deliver: {timeout_s: .nan}",
        "deliver: {timeout_s: .inf}",
    ],
)
def test_a_number_out_of_its_limits_is_a_mistake(written: str, file: Path) -> None:
    [(line, key, _)] = mistakes_in(file, A_SENDER + written)
    section, name = re.findall(r"[a-z_]+", written)[:2]
    assert (line, key) == (5, f"{section}.{name}")


@pytest.mark.parametrize(
    ("written", "key", "word"),
    [
        ("    results: ohiff\n", "peers.ct.results", "no such profile"),
        ("results_profiles: {ohif: {objects: [SEG]}}\n", "results_profiles.ohif", "choose a name"),
        (
            "results_profiles: {mine: {objects: []}}\n",
            "results_profiles.mine.objects",
            "at least 1",
        ),
        (
            "results_profiles: {mine: {objects: [SEG, RT]}}\n",
            "results_profiles.mine.objects.1",
            "PM",
        ),
        ("results: {disclaimer: ''}\n", "results.disclaimer", "at least 1"),
    ],
)
def test_a_profile_of_results_must_be_known_and_of_known_objects(
    written: str, key: str, word: str, file: Path
) -> None:
    [(_, found, message)] = mistakes_in(file, A_SENDER + written)
    assert found == key
    assert word in message


def test_a_profile_of_ones_own_is_a_profile(file: Path) -> None:
    text = (
        "results_profiles:\n  mine: {objects: [SEG, PDF], labelmap: auto, frames_max: 300}\n"
        "peers:\n  a: {ae_title: A, may_send: true, host: h, port: 1, results: mine}\n"
    )
    config = load(file, text)
    assert profiles_of(config)["a"] == Profile(
        frozenset({Kind.SEG, Kind.PDF, Kind.SR}), labelmap="auto", frames_max=300
    )


def test_the_profiles_of_the_node_are_those_that_the_configuration_knows() -> None:
    assert tuple(PROFILES) == RESULTS_PROFILES


# ---------------------------------------------------------------- config/node.yaml


def keys_of(model: type[BaseModel]) -> Iterator[tuple[str, str]]:
    for section, field in model.model_fields.items():
        if section == "peers":
            yield from (("peers", name) for name in Peer.model_fields)
        elif section != "results_profiles":  # a name each; the example shows one, commented out
            assert isinstance(field.annotation, type)
            assert issubclass(field.annotation, BaseModel)
            yield from ((section, name) for name in field.annotation.model_fields)


def written_sections(text: str) -> dict[str, str]:
    parts = re.split(r"^(\w+):$", text, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def test_every_key_stands_in_the_example_and_no_other() -> None:
    text = (ROOT / "config" / "node.yaml").read_text("utf-8")
    found = {
        (section, key)
        for section, body in written_sections(text).items()
        for key in re.findall(r"^ +(?:# )?([a-z0-9_]+):(?: |$)", body, re.MULTILINE)
        if not (section == "peers" and key in {"scanner", "archive"})
    }
    assert found == set(keys_of(Config))


def test_what_is_commented_out_in_the_example_is_the_default() -> None:
    text = (ROOT / "config" / "node.yaml").read_text("utf-8")
    defaults = Config()
    for section, body in written_sections(text).items():
        for key, value in re.findall(r"^ +# ([a-z_]+): (\S+)$", body, re.MULTILINE):
            default = getattr(getattr(defaults, section), key)
            written = yaml.safe_load(value)
            if isinstance(default, tuple):
                default = list(default)
            assert written == (str(default) if isinstance(default, Path) else default), key


def test_the_example_loads() -> None:
    config = load_config(ROOT / "config" / "node.yaml")
    assert config.node.engines_dir == ROOT / "engines"
    assert config.node.rules_file == ROOT / "config" / "rules.yaml"
    assert config.node.data_dir == ROOT / "data"
    assert list(config.destinations) == ["archive"]


def test_a_mistake_reads_as_file_line_key_message() -> None:
    assert str(Mistake("node.yaml", 3, "receive.port", "too big")) == (
        "node.yaml:3: receive.port: too big"
    )
    assert str(Mistake("node.yaml", 1, "", "is empty")) == "node.yaml:1: is empty"


def test_a_peer_changes_only_the_keys_that_it_writes_down(tmp_path: Path) -> None:
    file = tmp_path / "node.yaml"
    file.write_text(
        """\
assemble: {quiet_after_release_s: 7, longest_wait_s: 300}
peers:
  ct: {ae_title: CT1, may_send: true, assemble: {quiet_after_release_s: 30, at_suspect: hold}}
  mr: {ae_title: MR1, may_send: true}
"""
    )
    config = load_config(file)
    assert config.assemble_by_ae_title == {
        "CT1": AssembleSettings(quiet_after_release_s=30, longest_wait_s=300, at_suspect="hold")
    }


def test_a_runtime_is_named_for_all_engines_or_for_one(file: Path) -> None:
    text = "infer:\n  runtime: onnxruntime\n  runtimes: {mr_brain: openvino, cxr: auto}\n"
    infer = load(file, A_SENDER + text).infer
    assert (infer.runtime, infer.runtimes) == (
        "onnxruntime",
        {"mr_brain": "openvino", "cxr": "auto"},
    )
    assert load(file, A_SENDER).infer.runtime == "auto"


@pytest.mark.parametrize(
    ("written", "key", "message"),
    [
        ("runtime: onnx", "infer.runtime", "should be 'auto', 'onnxruntime'"),
        ("runtime: null", "infer.runtime", '"null", in quotes'),
        ("runtimes: {a: gpu}", "infer.runtimes.a", "should be 'auto', 'onnxruntime'"),
        ("runtime: kserve", "infer.runtime", "needs infer.server_url"),
        ("runtimes: {a: kserve}", "infer.runtimes.a", "needs infer.server_url"),
        ("server_url: host:8000", "infer.server_url", "must be a URL such as http://host:8000"),
        ("server_url: 'http://host:x'", "infer.server_url", "must be a URL"),
    ],
)
def test_a_runtime_that_there_cannot_be_is_a_mistake(
    written: str, key: str, message: str, file: Path
) -> None:
    [(_, found_key, found)] = mistakes_in(file, f"{A_SENDER}infer:\n  {written}\n")
    assert found_key == key
    assert message in found


def test_zeros_have_to_be_asked_for_in_quotes(file: Path) -> None:
    assert load(file, f'{A_SENDER}infer:\n  runtime: "null"\n').infer.runtime == "null"
