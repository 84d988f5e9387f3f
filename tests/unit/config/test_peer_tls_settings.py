"""`peers.NAME.tls` and `associations` in node.yaml, and the address that they come to."""

from __future__ import annotations

from pathlib import Path

import pytest

from dicom_node.config.settings import PeerTls
from dicom_node.errors import InvariantBroken
from dicom_node.scu.peers import address_of, client_tls_of
from dicom_node.scu.tls import ClientTls
from tests.unit.config.test_tls_settings import PEERS, file, load, mistakes_in

__all__ = ["file"]

ARCHIVE = PEERS + "  archive:\n    ae_title: ARCHIVE\n    host: pacs\n    port: 2762\n"
OWN_FILES = "tls:\n  certificate: node.pem\n  key: node.key\n  authorities: ca.pem\n"


def test_a_peer_is_spoken_to_without_tls_over_one_association(file: Path) -> None:
    config = load(file, ARCHIVE)
    peer = config.peers["archive"]
    assert (peer.tls, peer.associations) == (None, 1)
    address = address_of(peer, config)
    assert (address.tls, address.associations) == (None, 1)
    assert load(file, ARCHIVE + "    tls: false\n").peers["archive"].tls is None


def test_true_takes_the_files_of_the_section_tls_which_needs_no_port(
    file: Path, tmp_path: Path
) -> None:
    config = load(file, ARCHIVE + "    tls: true\n" + OWN_FILES + "  minimum_version: 1.3\n")
    assert config.peers["archive"].tls == PeerTls()
    assert address_of(config.peers["archive"], config).tls == ClientTls(
        section="peers.archive.tls",
        authorities=tmp_path / "ca.pem",
        certificate=tmp_path / "node.pem",
        key=tmp_path / "node.key",
        name=None,
        minimum_version="1.3",
        shared=frozenset({"authorities", "certificate", "key"}),
    )


def test_a_section_of_its_own_takes_what_it_leaves_out_from_tls(file: Path, tmp_path: Path) -> None:
    own = "    tls: {authorities: theirs.pem, name: archive.hospital.example}\n"
    config = load(file, ARCHIVE + own + OWN_FILES)
    tls = client_tls_of(config.peers["archive"], config)
    assert tls is not None
    assert (tls.authorities, tls.name) == (tmp_path / "theirs.pem", "archive.hospital.example")
    assert tls.certificate == tmp_path / "node.pem"
    assert tls.key_name("authorities") == "peers.archive.tls.authorities"
    assert tls.key_name("key") == "tls.key"


def test_without_a_certificate_of_ours_none_is_shown(file: Path) -> None:
    config = load(file, ARCHIVE + "    tls: {authorities: theirs.pem}\n")
    tls = client_tls_of(config.peers["archive"], config)
    assert tls is not None
    assert (tls.certificate, tls.key) == (None, None)
    assert tls.key_name("certificate") == "peers.archive.tls.certificate"


@pytest.mark.parametrize(
    ("written", "key", "message"),
    [
        ("tls: true", "peers.archive.tls", "needs the PEM file of the authority"),
        ("tls: {name: x}", "peers.archive.tls", "peers.archive.tls.authorities or tls.authorities"),
        ("tls: 1", "peers.archive.tls", "must be true, false, or a section"),
        ("tls: yes please", "peers.archive.tls", "must be true, false, or a section"),
        ("tls: {authorities: a, name: '*.x'}", "peers.archive.tls.name", "without wildcards"),
        ("tls: {authorities: a, port: 1}", "peers.archive.tls.port", "no such key"),
        (
            "tls: {authorities: a, key: k}",
            "peers.archive.tls",
            "needs both certificate and key, or neither",
        ),
        ("associations: 0", "peers.archive.associations", "greater than or equal to 1"),
        ("associations: 33", "peers.archive.associations", "less than or equal to 32"),
    ],
)
def test_what_does_not_fit_together_is_a_mistake_with_its_line(
    written: str, key: str, message: str, file: Path
) -> None:
    [(line, found_key, found)] = mistakes_in(file, f"{ARCHIVE}    {written}\n")
    assert (line, found_key) == (9, key)
    assert message in found


def test_half_a_pair_in_the_section_tls_is_no_certificate_to_show(file: Path) -> None:
    text = ARCHIVE + "    tls: {authorities: a}\ntls:\n  certificate: node.pem\n"
    [(_, key, message)] = mistakes_in(file, text)
    assert key == "peers.archive.tls"
    assert "needs both tls.certificate and tls.key" in message


def test_a_peer_without_an_address_cannot_be_spoken_to(file: Path) -> None:
    text = PEERS + "    tls: {authorities: a}\n"
    [(_, key, message)] = mistakes_in(file, text)
    assert (key, message) == ("peers.ct.tls", "needs host and port to speak TLS to")
    config = load(file, ARCHIVE)
    with pytest.raises(InvariantBroken):
        address_of(config.peers["ct"], config)
