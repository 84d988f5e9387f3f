"""`tls` and the peers' certificates in node.yaml: what does not fit together is found at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from dicom_node.config.loading import load_config
from dicom_node.config.settings import Config, TlsSettings
from dicom_node.errors import ConfigError

SHA256 = "0123456789abcdef" * 4
PEERS = "peers:\n  ct:\n    ae_title: CT1\n    may_send: true\n"
TLS = "tls:\n  port: 2762\n  certificate: node.pem\n  key: node.key\n  authorities: ca.pem\n"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "node.yaml"


def load(file: Path, text: str) -> Config:
    file.write_text(text, "utf-8")
    return load_config(file)


def mistakes_in(file: Path, text: str) -> list[tuple[int, str, str]]:
    with pytest.raises(ConfigError) as caught:
        load(file, text)
    return [(m.line, m.key, m.message) for m in caught.value.mistakes]


def test_tls_is_off_as_long_as_it_has_no_port(file: Path) -> None:
    assert load(file, PEERS).tls == TlsSettings()
    assert load(file, PEERS + "tls:\n  certificate: node.pem\n").tls.port is None


def test_the_files_lie_beside_the_configuration(file: Path, tmp_path: Path) -> None:
    tls = load(file, PEERS + TLS + "  revocation_list: /srv/crl.pem\n").tls
    assert tls.certificate == tmp_path / "node.pem"
    assert tls.key == tmp_path / "node.key"
    assert tls.authorities == tmp_path / "ca.pem"
    assert tls.revocation_list == Path("/srv/crl.pem")


def test_a_link_stays_a_link_since_it_may_be_moved_while_the_node_runs(
    file: Path, tmp_path: Path
) -> None:
    (tmp_path / "node.pem").symlink_to(tmp_path / "archive" / "node1.pem")
    assert load(file, PEERS + TLS).tls.certificate == tmp_path / "node.pem"


@pytest.mark.parametrize("written", ["1.3", "'1.3'", '"1.3"'])
def test_the_version_may_be_written_with_or_without_quotes(written: str, file: Path) -> None:
    assert load(file, f"{PEERS}{TLS}  minimum_version: {written}\n").tls.minimum_version == "1.3"


@pytest.mark.parametrize("written", ["1.1", "1", "'TLS 1.2'"])
def test_no_other_version_can_be_asked_for(written: str, file: Path) -> None:
    [(line, key, message)] = mistakes_in(file, f"{PEERS}{TLS}  minimum_version: {written}\n")
    assert (line, key) == (10, "tls.minimum_version")
    assert "'1.2' or '1.3'" in message


@pytest.mark.parametrize(
    "written",
    [
        SHA256,
        SHA256.upper(),
        ":".join(SHA256[i : i + 2] for i in range(0, 64, 2)).upper(),
        " ".join(SHA256[i : i + 2] for i in range(0, 64, 2)),
    ],
)
def test_a_fingerprint_is_the_same_however_it_is_written(written: str, file: Path) -> None:
    config = load(file, f"{PEERS}    certificate_sha256: '{written}'\n{TLS}")
    assert config.peers["ct"].certificate_sha256 == SHA256
    assert config.peers["ct"].is_bound


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("certificate_sha256: abc", "64 hexadecimal digits"),
        (f"certificate_sha256: {SHA256[:40]}", "64 hexadecimal digits"),
        (f"certificate_sha256: {SHA256[:-1]}g", "64 hexadecimal digits"),
        ("certificate_name: '*.hospital.example'", "without wildcards"),
        ("certificate_name: ' '", "must be one name"),
    ],
)
def test_what_cannot_name_a_certificate_is_a_mistake(line: str, message: str, file: Path) -> None:
    [(number, key, found)] = mistakes_in(file, f"{PEERS}    {line}\n{TLS}")
    assert (number, key) == (5, f"peers.ct.{line.split(':')[0]}")
    assert message in found


@pytest.mark.parametrize(
    ("tls", "line", "key", "message"),
    [
        ("  port: 2762\n  key: k\n  authorities: a\n", 5, "tls.certificate", "is missing"),
        ("  port: 2762\n  certificate: c\n  authorities: a\n", 5, "tls.key", "is missing"),
        (
            "  port: 2762\n  certificate: c\n  key: k\n",
            5,
            "tls.authorities",
            "or set tls.require_client_certificate: false",
        ),
        (
            "  port: 11112\n  certificate: c\n  key: k\n  authorities: a\n",
            6,
            "tls.port",
            "must differ from receive.port",
        ),
        (
            "  port: 2762\n  certificate: c\n  key: k\n  require_client_certificate: false\n"
            "  revocation_list: r\n",
            10,
            "tls.revocation_list",
            "means nothing without tls.authorities",
        ),
        ("  port: 70000\n", 6, "tls.port", "65535"),
        ("  warn_days: -1\n", 6, "tls.warn_days", "0"),
        ("  certificates: c\n", 6, "tls.certificates", "no such key"),
    ],
)
def test_what_does_not_fit_together_is_a_mistake_at_its_line(
    tls: str, line: int, key: str, message: str, file: Path
) -> None:
    [found] = mistakes_in(file, f"{PEERS}tls:\n{tls}")
    assert found[:2] == (line, key)
    assert message in found[2]


def test_all_that_is_missing_is_named_at_once(file: Path) -> None:
    found = mistakes_in(file, f"{PEERS}tls:\n  port: 2762\n")
    assert [key for _, key, _ in found] == ["tls.certificate", "tls.key", "tls.authorities"]


def test_without_client_certificates_no_authorities_are_needed(file: Path) -> None:
    text = "tls:\n  port: 2762\n  certificate: c\n  key: k\n  require_client_certificate: false\n"
    assert load(file, PEERS + text).tls.authorities is None


@pytest.mark.parametrize(
    ("tls", "message"),
    [
        ("", "tls.port is not set"),
        (
            "tls:\n  port: 2762\n  certificate: c\n  key: k\n  require_client_certificate: false\n",
            "tls.authorities is missing",
        ),
    ],
)
def test_a_peer_that_could_never_come_in_is_a_mistake(tls: str, message: str, file: Path) -> None:
    [(line, key, found)] = mistakes_in(file, f"{PEERS}    certificate_name: ct1\n{tls}")
    assert (line, key) == (2, "peers.ct")
    assert message in found
