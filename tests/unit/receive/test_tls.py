"""DICOM over TLS: who gets in and who does not, by real handshakes."""

from __future__ import annotations

import errno
import os
import re
import socket
import ssl
import struct
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from dicom_node.config.settings import TlsSettings
from dicom_node.receive.admission import PeerCertificate
from dicom_node.receive.tls import TlsDoor, begin_handshake, handshake_failure_in_words, is_gone
from tests.certificates import P256, RSA, Authority, Certificates, Holder
from tests.unit.receive.handshakes import TLS_1_2, TLS_1_3, Door, HandClock, Line, node, peer

ROOT = Path(__file__).parents[3]

RequireProgram = Callable[[str], Path]

TLS_1_2_SUITES = {
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-RSA-AES128-GCM-SHA256",
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-RSA-AES256-GCM-SHA384",
}
TLS_1_3_SUITES = {
    "TLS_AES_128_GCM_SHA256",
    "TLS_AES_256_GCM_SHA384",
    "TLS_CHACHA20_POLY1305_SHA256",
}


# ------------------------------------------------------------ who gets in


def test_a_peer_with_a_good_certificate_gets_in_and_is_known_by_it(
    certificates: Certificates, line: Line
) -> None:
    trusting = certificates.authority.certificate
    shaken = line.shake(node(certificates), peer(trusting, certificates.ct1))
    assert shaken.certificate == PeerCertificate(
        certificates.ct1.sha256,
        ("ct1.hospital.example",),
        datetime(2050, 1, 1, tzinfo=UTC).timestamp(),
    )
    assert shaken.node.version() == "TLSv1.3"
    assert shaken.node.compression() is None


def test_the_names_of_a_certificate_are_its_common_name_and_its_dns_names(
    certificates: Certificates, line: Line
) -> None:
    trusting = certificates.authority.certificate
    shaken = line.shake(node(certificates), peer(trusting, certificates.ct2))
    assert shaken.certificate is not None
    assert shaken.certificate.names == ("CT 2", "ct2.hospital.example", "ct2")
    assert shaken.certificate.sha256 == certificates.ct2.sha256


def test_the_fingerprint_is_the_one_that_openssl_prints(
    certificates: Certificates, line: Line, require_program: RequireProgram
) -> None:
    command = ["x509", "-noout", "-fingerprint", "-sha256", "-in"]
    printed = subprocess.run(
        [require_program("openssl"), *command, certificates.ct1.certificate],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    trusting = certificates.authority.certificate
    shaken = line.shake(node(certificates), peer(trusting, certificates.ct1))
    assert shaken.certificate is not None
    assert printed.partition("=")[2].strip().replace(":", "").lower() == shaken.certificate.sha256


def test_where_no_certificate_is_required_a_peer_gets_in_without_one(
    certificates: Certificates, line: Line
) -> None:
    context = node(certificates, require_client_certificate=False)
    trusting = certificates.authority.certificate
    assert line.shake(context, peer(trusting)).certificate is None


def test_where_no_certificate_is_required_a_bad_one_is_refused_all_the_same(
    certificates: Certificates, line: Line
) -> None:
    context = node(certificates, require_client_certificate=False)
    trusting = certificates.authority.certificate
    assert line.shake(context, peer(trusting, certificates.ct1)).certificate is not None
    assert "has expired" in line.shake(context, peer(trusting, certificates.expired)).words


def test_without_authorities_no_peer_is_asked_for_a_certificate(
    certificates: Certificates, line: Line
) -> None:
    context = node(
        certificates, require_client_certificate=False, authorities=None, revocation_list=None
    )
    trusting = certificates.authority.certificate
    assert line.shake(context, peer(trusting, certificates.unknown)).certificate is None


def test_the_issuing_authority_is_enough_without_its_root(
    certificates: Certificates, line: Line, tmp_path: Path, require_program: RequireProgram
) -> None:
    root = Authority(require_program("openssl"), tmp_path / "root", "Root CA")
    issuing = Authority(
        require_program("openssl"), tmp_path / "issuing", "Issuing CA", certified_by=root
    )
    context = node(certificates, authorities=issuing.certificate, revocation_list=None)
    trusting = certificates.authority.certificate
    assert line.shake(context, peer(trusting, issuing.certify("ct3"))).certificate is not None
    assert "does not know" in line.shake(context, peer(trusting, root.certify("ct4"))).words


def test_a_certificate_that_a_scanner_signed_itself_can_be_named_as_its_own_authority(
    certificates: Certificates, line: Line, tmp_path: Path, require_program: RequireProgram
) -> None:
    scanner = self_signed(require_program("openssl"), tmp_path)
    trusting = certificates.authority.certificate
    refused = line.shake(node(certificates), peer(trusting, scanner))
    assert "signed its certificate itself" in refused.words
    assert "`tls.authorities`" in refused.words
    both = tmp_path / "both.pem"
    both.write_bytes(trusting.read_bytes() + scanner.certificate.read_bytes())
    context = node(certificates, authorities=both, revocation_list=None)
    assert line.shake(context, peer(trusting, scanner)).certificate is not None
    assert line.shake(context, peer(trusting, certificates.ct1)).certificate is not None


def self_signed(openssl: Path, folder: Path) -> Holder:
    holder = Holder(folder / "self.pem", folder / "self.key")
    command: list[str | Path] = ["req", "-x509", *P256, "-nodes", "-subj", "/CN=SCANNER"]
    command += ["-days", "900", "-keyout", holder.key, "-out", holder.certificate]
    subprocess.run([openssl, *command], check=True, capture_output=True)
    return holder


def test_the_commands_that_the_operator_reads_make_certificates_that_get_in(
    line: Line, tmp_path: Path, require_program: RequireProgram
) -> None:
    folder = str(require_program("openssl").parent)
    text = (ROOT / "docs" / "operator.md").read_text("utf-8")
    commands = re.search(r"^ +openssl req -x509 .*?^ +done$", text, re.MULTILINE | re.DOTALL)
    assert commands is not None
    subprocess.run(
        ["bash", "-ec", commands[0]],
        cwd=tmp_path,
        check=True,
        capture_output=True,
        env=os.environ | {"PATH": f"{folder}:{os.environ['PATH']}"},
    )
    given = TlsSettings(
        port=2762,
        certificate=tmp_path / "node.pem",
        key=tmp_path / "node.key",
        authorities=tmp_path / "ca.pem",
    )
    client = peer(tmp_path / "ca.pem", Holder(tmp_path / "ct1.pem", tmp_path / "ct1.key"))
    shaken = line.shake(TlsDoor(given, HandClock()).context(), client)
    assert shaken.certificate is not None
    assert shaken.certificate.names == ("ct1.hospital.example",)


# ------------------------------------------------------------ who does not, in words


def holder_of(kind: str, certificates: Certificates, openssl: Path, folder: Path) -> Holder | None:
    authority = certificates.authority
    if kind == "none":
        return None
    if kind == "not yet valid":
        return authority.certify("ct-new", starts="20490101000000Z")
    if kind == "for servers alone":
        return authority.certify("ct5", extensions=("extendedKeyUsage=serverAuth",))
    if kind == "short key":
        return authority.certify("ct6", key=("-newkey", "rsa:1024"))
    found: Holder = getattr(certificates, kind)
    return found


@pytest.mark.parametrize("maximum", [TLS_1_2, TLS_1_3])
@pytest.mark.parametrize(
    ("kind", "words", "what_to_do"),
    [
        ("expired", "has expired", "must install a new one there"),
        ("revoked", "was revoked", "must install a new one there"),
        ("unknown", "an authority that the node does not know", "file of `tls.authorities`"),
        ("none", "showed no certificate", "`tls.require_client_certificate: false`"),
        ("not yet valid", "is not valid yet", "compare the clocks"),
        ("for servers alone", "not made for TLS clients", "another one issued"),
        ("short key", "too short", "another one issued"),
    ],
)
def test_a_peer_is_refused_in_words_that_say_who_must_do_what(
    kind: str,
    words: str,
    what_to_do: str,
    maximum: ssl.TLSVersion,
    certificates: Certificates,
    line: Line,
    tmp_path: Path,
    require_program: RequireProgram,
) -> None:
    holder = holder_of(kind, certificates, require_program("openssl"), tmp_path)
    trusting = certificates.authority.certificate
    refused = line.shake(
        node(certificates), peer(trusting, holder, maximum=maximum, suites="ALL:@SECLEVEL=0")
    )
    assert words in refused.words
    assert what_to_do in refused.words
    assert refused.node_error is not None
    assert not is_gone(refused.node_error)


def test_an_authority_without_a_revocation_list_is_named_where_lists_are_looked_at(
    certificates: Certificates, line: Line, tmp_path: Path, require_program: RequireProgram
) -> None:
    other = Authority(require_program("openssl"), tmp_path / "other", "Other CA")
    listed = other.revocation_list(tmp_path / "other.pem")
    context = node(certificates, revocation_list=listed)
    trusting = certificates.authority.certificate
    words = line.shake(context, peer(trusting, certificates.ct1)).words
    assert "has no list of the authority that issued its certificate" in words


def test_a_revocation_list_that_is_out_of_date_is_the_nodes_to_renew(
    certificates: Certificates, line: Line, tmp_path: Path
) -> None:
    old = certificates.authority.revocation_list(tmp_path / "old.pem", ends="20210101000000Z")
    context = node(certificates, revocation_list=old)
    trusting = certificates.authority.certificate
    words = line.shake(context, peer(trusting, certificates.ct1)).words
    assert "out of date" in words
    assert "fetch the new list into `tls.revocation_list`" in words


@pytest.mark.parametrize(
    "sent",
    [
        b"\x01\x00\x00\x00\x00\xcd\x00\x01\x00\x00DICOM_NODE      SCANNER         " + bytes(160),
        b"GET / HTTP/1.1\r\nHost: node\r\n\r\n",
        b"CONNECT node:2762 HTTP/1.1\r\n\r\n",
        b"\xff" * 64,
        b"SSH-2.0-OpenSSH_9.2p1\r\n",
    ],
)
def test_who_does_not_speak_tls_is_told_of_the_other_port(
    sent: bytes, certificates: Certificates, line: Line
) -> None:
    error = line.shake_with_bytes(node(certificates), sent)
    words = handshake_failure_in_words(error)
    assert "did not speak TLS on the TLS port" in words
    assert "`receive.port`" in words


@pytest.mark.parametrize("sent", [b"", b"\x16\x03\x01\x02\x00\x01"])
def test_who_closes_in_the_middle_is_gone_and_was_not_refused(
    sent: bytes, certificates: Certificates, line: Line
) -> None:
    error = line.shake_with_bytes(node(certificates), sent)
    assert is_gone(error)
    assert "closed the connection in the middle" in handshake_failure_in_words(error)


@pytest.mark.parametrize("sent", [b"", b"x"])
def test_a_connection_that_was_reset_before_it_was_accepted_is_gone_and_closed(
    sent: bytes, certificates: Certificates
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        calling = socket.create_connection(listener.getsockname())
        calling.sendall(sent)
        calling.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        calling.close()
        accepted, _ = listener.accept()
    with pytest.raises(OSError, match="not connected") as caught:
        begin_handshake(node(certificates), accepted)
    assert accepted.fileno() == -1
    assert is_gone(caught.value)
    assert "closed the connection in the middle" in handshake_failure_in_words(caught.value)


@pytest.mark.parametrize(
    "error",
    [
        ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"),
        BrokenPipeError(errno.EPIPE, "Broken pipe"),
        ssl.SSLError(errno.ENOTCONN, "Closed before TLS handshake with data in recv buffer."),
    ],
)
def test_a_reset_at_any_other_moment_reads_as_a_close(error: OSError) -> None:
    assert is_gone(error)
    assert "closed the connection in the middle" in handshake_failure_in_words(error)


@pytest.mark.parametrize("maximum", [TLS_1_2, TLS_1_3])
def test_a_peer_that_does_not_trust_the_node_is_told_apart_from_one_that_we_do_not_trust(
    maximum: ssl.TLSVersion, certificates: Certificates, line: Line
) -> None:
    stranger = certificates.unknown.certificate.parent / "authority.pem"
    refused = line.shake(node(certificates), peer(stranger, certificates.ct1, maximum=maximum))
    assert "refuses the node's certificate (alert unknown ca)" in refused.words
    assert "`tls.certificate`" in refused.words


def test_a_failure_that_nobody_thought_of_still_has_openssls_own_words() -> None:
    assert "SOMETHING" in handshake_failure_in_words(ssl.SSLError(1, "[SSL: SOMETHING]"))


# ------------------------------------------------------------ versions and cipher suites


@pytest.mark.parametrize("maximum", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
def test_older_versions_of_tls_are_refused(
    maximum: ssl.TLSVersion, certificates: Certificates, line: Line
) -> None:
    with pytest.deprecated_call():
        old = peer(
            certificates.authority.certificate,
            certificates.ct1,
            maximum=maximum,
            suites="ALL:@SECLEVEL=0",
        )
        old.minimum_version = ssl.TLSVersion.TLSv1
    refused = line.shake(node(certificates), old)
    assert "older than `tls.minimum_version`" in refused.words


def test_tls_1_2_is_refused_where_1_3_is_the_least(certificates: Certificates, line: Line) -> None:
    context = node(certificates, minimum_version="1.3")
    trusting = certificates.authority.certificate
    old = line.shake(context, peer(trusting, certificates.ct1, maximum=TLS_1_2))
    assert "older than `tls.minimum_version`" in old.words
    assert line.shake(context, peer(trusting, certificates.ct1)).node.version() == "TLSv1.3"


@pytest.mark.parametrize("suite", sorted(TLS_1_2_SUITES))
def test_each_suite_of_the_profile_is_taken(
    suite: str, certificates: Certificates, line: Line
) -> None:
    own = certificates.authority.certify("node", key=P256 if "ECDSA" in suite else RSA)
    context = node(certificates, certificate=own.certificate, key=own.key)
    trusting = certificates.authority.certificate
    shaken = line.shake(context, peer(trusting, certificates.ct1, suites=suite, maximum=TLS_1_2))
    assert shaken.certificate is not None
    assert shaken.node.cipher() == (suite, "TLSv1.2", 128 if "128" in suite else 256)


@pytest.mark.parametrize(
    "suite",
    [
        "AES128-GCM-SHA256",  # no forward secrecy
        "AES128-SHA",
        "ECDHE-RSA-AES128-SHA256",  # CBC
        "ECDHE-RSA-AES256-SHA",
        "DHE-RSA-AES128-GCM-SHA256",  # RFC 9325 4.1
        "ECDHE-RSA-CHACHA20-POLY1305",
        "NULL-SHA256:@SECLEVEL=0",
    ],
)
def test_no_other_suite_is_taken(suite: str, certificates: Certificates, line: Line) -> None:
    trusting = certificates.authority.certificate
    refused = line.shake(
        node(certificates), peer(trusting, certificates.ct1, suites=suite, maximum=TLS_1_2)
    )
    assert "none of the cipher suites" in refused.words


def test_the_context_offers_what_the_profile_names_and_nothing_more(
    certificates: Certificates,
) -> None:
    context = node(certificates)
    offered = {suite["name"] for suite in context.get_ciphers()}
    assert offered == TLS_1_2_SUITES | TLS_1_3_SUITES
    assert context.options & ssl.OP_NO_RENEGOTIATION
    assert context.options & ssl.OP_NO_COMPRESSION


def test_no_ticket_is_given_and_tls_1_3_resumes_no_session(
    certificates: Certificates, line: Line
) -> None:
    context = node(certificates)
    for maximum in (TLS_1_2, TLS_1_3):
        client = peer(certificates.authority.certificate, certificates.ct1, maximum=maximum)
        first = line.shake(context, client)
        first.node.send(b"x")  # in TLS 1.3 tickets come behind the handshake, with data
        assert first.peer.recv(1) == b"x"
        assert first.peer.session is None or not first.peer.session.has_ticket
        if maximum is TLS_1_3:
            assert not line.shake(context, client, first.peer.session).peer.session_reused


def test_a_resumed_session_of_tls_1_2_does_not_get_past_a_new_revocation_list(
    door: Door, certificates: Certificates, line: Line, tmp_path: Path
) -> None:
    """Python cannot switch session IDs off, but each context has a cache of its own."""
    stolen = certificates.authority.certify("ct8")
    client = peer(certificates.authority.certificate, stolen, maximum=TLS_1_2)
    first = line.shake(door.look(), client)
    resumed = line.shake(door.look(), client, first.peer.session)
    assert resumed.certificate == first.certificate
    certificates.authority.revoke(stolen)
    door.replace("revocation_list", certificates.authority.revocation_list(tmp_path / "new.pem"))
    assert "was revoked" in line.shake(door.look(), client, first.peer.session).words


def test_no_application_protocol_is_negotiated(certificates: Certificates, line: Line) -> None:
    client = peer(certificates.authority.certificate, certificates.ct1)
    client.set_alpn_protocols(["h2", "http/1.1"])
    shaken = line.shake(node(certificates), client)
    assert shaken.certificate is not None
    assert shaken.node.selected_alpn_protocol() is None
