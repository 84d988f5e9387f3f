"""Whether the certificate that a peer shows is the one that its AE title is bound to."""

from __future__ import annotations

import re

import pytest
import yaml

from dicom_node.config.settings import Peer
from dicom_node.receive.admission import PeerCertificate, refusal_of_certificate

SHA256 = "ab" * 32
OTHER = "cd" * 32
CERTIFICATE = PeerCertificate(SHA256, ("CT 1", "ct1.hospital.example"), 4e9)


def peer(**keys: str) -> Peer:
    return Peer.model_validate({"ae_title": "CT1", "may_send": True, **keys})


def lines_in(refusal: str) -> list[tuple[str, str]]:
    """Return the lines of YAML that stand in a refusal, read."""
    found = re.findall(r"`(certificate_\w+: [^`]+)`", refusal)
    return [pair for line in found for pair in yaml.safe_load(line).items()]


@pytest.mark.parametrize(
    ("keys", "certificate", "over_tls"),
    [
        ({}, None, False),
        ({}, None, True),
        ({}, CERTIFICATE, True),
        ({"certificate_sha256": SHA256}, CERTIFICATE, True),
        ({"certificate_sha256": ":".join(["AB"] * 32)}, CERTIFICATE, True),
        ({"certificate_name": "CT 1"}, CERTIFICATE, True),
        ({"certificate_name": "CT1.Hospital.Example"}, CERTIFICATE, True),
        ({"certificate_sha256": SHA256, "certificate_name": "CT 1"}, CERTIFICATE, True),
    ],
)
def test_it_is_let_in(
    keys: dict[str, str], certificate: PeerCertificate | None, over_tls: bool
) -> None:
    assert refusal_of_certificate(peer(**keys), certificate, over_tls) is None


@pytest.mark.parametrize(
    ("keys", "line", "no_line"),
    [
        ({"certificate_sha256": OTHER}, "certificate_sha256", "certificate_name"),
        ({"certificate_name": "ct2"}, "certificate_name", "certificate_sha256"),
        ({"certificate_name": "hospital.example"}, "certificate_name", "certificate_sha256"),
        (
            {"certificate_sha256": SHA256, "certificate_name": "ct2"},
            "certificate_name",
            "certificate_sha256",
        ),
        (
            {"certificate_sha256": OTHER, "certificate_name": "CT 1"},
            "certificate_sha256",
            "certificate_name",
        ),
    ],
)
def test_another_certificate_is_refused_with_the_line_that_would_admit_it(
    keys: dict[str, str], line: str, no_line: str
) -> None:
    refusal = refusal_of_certificate(peer(**keys), CERTIFICATE, True)
    assert refusal is not None
    assert refusal.startswith("calling AE title CT1 is bound to a certificate")
    value = SHA256 if line == "certificate_sha256" else "CT 1"
    assert (line, value) in lines_in(refusal)
    assert f"`{no_line}" not in refusal
    # The line is no empty promise:
    assert refusal_of_certificate(peer(**{**keys, line: value}), CERTIFICATE, True) is None


def test_where_both_are_wrong_both_lines_are_named() -> None:
    wrong = peer(certificate_sha256=OTHER, certificate_name="ct2")
    refusal = refusal_of_certificate(wrong, CERTIFICATE, True)
    assert refusal is not None
    assert lines_in(refusal) == [("certificate_sha256", SHA256), ("certificate_name", "CT 1")]


def test_an_awkward_name_is_quoted_so_that_the_line_can_be_pasted() -> None:
    shown = PeerCertificate(SHA256, ('CT: "1" #2',), 4e9)
    refusal = refusal_of_certificate(peer(certificate_name="ct1"), shown, True)
    assert refusal is not None
    [(_, name)] = lines_in(refusal)
    assert refusal_of_certificate(peer(certificate_name=name), shown, True) is None


@pytest.mark.parametrize("names", [(), ("*.hospital.example",), ("CT\n1",)])
def test_a_certificate_without_a_usable_name_is_admitted_by_its_fingerprint(
    names: tuple[str, ...],
) -> None:
    shown = PeerCertificate(SHA256, names, 4e9)
    refusal = refusal_of_certificate(peer(certificate_name="ct1"), shown, True)
    assert refusal is not None
    assert f"`certificate_sha256: {SHA256}` in place of `certificate_name`" in refusal
    assert refusal_of_certificate(peer(certificate_sha256=SHA256), shown, True) is None


def test_a_bound_peer_is_refused_without_tls_even_when_all_else_fits() -> None:
    refusal = refusal_of_certificate(peer(certificate_name="CT 1"), None, False)
    assert refusal is not None
    assert "came without TLS" in refusal
    assert "`tls.port`" in refusal
    assert "`certificate_name`" in refusal
    assert "`certificate_sha256`" not in refusal


def test_a_bound_peer_is_refused_when_it_shows_no_certificate() -> None:
    both = peer(certificate_name="CT 1", certificate_sha256=SHA256)
    refusal = refusal_of_certificate(both, None, True)
    assert refusal is not None
    assert "showed none" in refusal
    assert "`certificate_sha256` and `certificate_name`" in refusal


def test_what_a_stranger_writes_into_his_certificate_cannot_spoil_the_log() -> None:
    names = ("evil\n\x1b[31m", "x" * 1000, "a", "b", "c")
    refusal = refusal_of_certificate(
        peer(certificate_sha256=OTHER), PeerCertificate(SHA256, names, 4e9), True
    )
    assert refusal is not None
    assert refusal.isprintable()
    assert len(refusal) < 600
