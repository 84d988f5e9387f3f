"""TLS towards destinations, with DCMTK's storescp as one: who is trusted, and who must do what."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from dicom_node.deliver.originals import Original
from dicom_node.deliver.store_scu import echo, send_originals
from dicom_node.errors import PeerUnreachable
from dicom_node.harness.archive import Archive
from dicom_node.scu.address import Address
from dicom_node.scu.content import Content, FilePart
from dicom_node.scu.part10 import Part10File
from dicom_node.scu.tls import ClientTls
from tests.certificates import RSA, Authority, Certificates, Holder
from tests.protocol.acceptor import Acceptor, Caller
from tests.protocol.storescp import HOST, storescp

CT = "1.2.840.10008.5.1.4.1.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"
NAME = "archive.hospital.example"
SECTION = "peers.archive.tls"

RequireProgram = Callable[[str], Path]


@pytest.fixture(scope="module")
def servers(certificates: Certificates) -> dict[str, Holder]:
    """What an archive may show; DCMTK 3.6.7 offers RSA alone."""
    certify = certificates.authority.certify
    names = (f"subjectAltName=DNS:{NAME}",)
    return {
        "right": certify(NAME, key=RSA, extensions=names),
        "by address": certify("archive", key=RSA, extensions=(f"subjectAltName=IP:{HOST}",)),
        "expired": certify(NAME, key=RSA, extensions=names, ends="20210101000000Z"),
        "not yet": certify(NAME, key=RSA, extensions=names, starts="20490101000000Z"),
        "clients only": certify(NAME, key=RSA, extensions=(*names, "extendedKeyUsage=clientAuth")),
    }


@pytest.fixture
def tls(certificates: Certificates) -> ClientTls:
    return ClientTls(
        SECTION,
        certificates.authority.certificate,
        certificates.node.certificate,
        certificates.node.key,
        NAME,
    )


def address(port: int, tls: ClientTls | None) -> Address:
    return Address(HOST, port, "ARCHIVE", "DICOM_NODE", 20.0, tls=tls)


@pytest.mark.witness
def test_an_instance_goes_out_over_tls_byte_for_byte(
    servers: dict[str, Holder],
    certificates: Certificates,
    tls: ClientTls,
    tmp_path: Path,
    free_port: int,
    require_program: RequireProgram,
) -> None:
    content = bytes(range(256)) * 20_000
    file = tmp_path / "data"
    file.write_bytes(b"\x09\x00\x01\x10OB\x00\x00" + len(content).to_bytes(4, "little") + content)
    part = FilePart(file, 0, file.stat().st_size)
    options: list[str | Path] = ["+B", "+tls", servers["right"].key, servers["right"].certificate]
    options += ["+cf", certificates.authority.certificate]
    program = require_program("storescp")
    with storescp(program, tmp_path / "received", free_port, *options) as folder:
        echo(address(free_port, tls))
        originals = [Original(CT, f"1.2.{n}", EXPLICIT, Content.of(part)) for n in range(3)]
        assert list(send_originals(originals, address(free_port, tls))) == ["stored"] * 3
        arrived = list(folder.iterdir())
        assert len(arrived) == 3
        assert all(Part10File.read(one).data_set() == file.read_bytes() for one in arrived)


@pytest.mark.witness
def test_without_a_name_the_certificate_is_for_the_host(
    servers: dict[str, Holder],
    tls: ClientTls,
    tmp_path: Path,
    free_port: int,
    require_program: RequireProgram,
) -> None:
    options: list[str | Path] = [
        "+tls",
        servers["by address"].key,
        servers["by address"].certificate,
        "-ic",
    ]
    with storescp(require_program("storescp"), tmp_path / "received", free_port, *options):
        echo(address(free_port, replace(tls, name=None)))


@pytest.mark.witness
@pytest.mark.parametrize(
    ("shown", "change", "said", "hint"),
    [
        (
            "right",
            {"name": "other.hospital.example"},
            "shows a certificate that is not for other.hospital.example",
            "set `peers.archive.tls.name`",
        ),
        (
            "right",
            {"name": None},
            "shows a certificate that is not for 127.0.0.1",
            "set `peers.archive.tls.name`",
        ),
        ("expired", {}, "shows a certificate that has expired", "must install a new one"),
        ("not yet", {}, "shows a certificate that is not valid yet", "compare the clocks"),
        ("clients only", {}, "extended key usage without serverAuth", "must install a new one"),
        (
            "right",
            {"authorities": "stranger"},
            "from an authority that we do not know",
            "append that authority's certificate (PEM) to the file of `peers.archive.tls.auth",
        ),
    ],
)
def test_a_peer_that_is_not_whom_we_want_gets_nothing(
    shown: str,
    change: dict[str, str | None],
    said: str,
    hint: str,
    servers: dict[str, Holder],
    tls: ClientTls,
    tmp_path: Path,
    free_port: int,
    require_program: RequireProgram,
) -> None:
    if "authorities" in change:
        stranger = Authority(require_program("openssl"), tmp_path / "stranger", "Stranger CA")
        tls = replace(tls, authorities=stranger.certificate)
    else:
        tls = replace(tls, name=change.get("name", tls.name))
    options: list[str | Path] = ["+tls", servers[shown].key, servers[shown].certificate, "-ic"]
    with storescp(require_program("storescp"), tmp_path / "received", free_port, *options):
        error = failure(free_port, tls)
    assert said in error.message
    assert hint in error.hint


@pytest.mark.witness
@pytest.mark.parametrize("shows", ["nothing", "an unknown certificate"])
def test_a_peer_that_does_not_trust_us_is_to_be_told_so(
    shows: str,
    servers: dict[str, Holder],
    certificates: Certificates,
    tls: ClientTls,
    tmp_path: Path,
    free_port: int,
    require_program: RequireProgram,
) -> None:
    own = None if shows == "nothing" else certificates.unknown
    tls = replace(
        tls,
        certificate=None if own is None else own.certificate,
        key=None if own is None else own.key,
    )
    options: list[str | Path] = ["+tls", servers["right"].key, servers["right"].certificate]
    options += ["+cf", certificates.authority.certificate]
    with storescp(require_program("storescp"), tmp_path / "received", free_port, *options):
        error = failure(free_port, tls)
    if own is None:
        assert "peers.archive.tls.certificate` and `" in error.hint
    else:
        assert "refuses our certificate" in error.message
        assert "trust the authority that issued `peers.archive.tls.certificate`" in error.hint


def test_a_peer_without_tls_is_told_from_one_that_is_not_there(
    tls: ClientTls, tmp_path: Path
) -> None:
    with Archive(tmp_path / "archive") as archive:
        error = failure(archive.port, tls)
    assert "ended the TLS handshake as one that speaks no TLS" in error.message
    assert "set `peers.archive.tls: false`, or give the port" in error.hint


def test_a_peer_that_lets_us_wait_in_the_handshake_costs_the_timeout(tls: ClientTls) -> None:
    def silent(caller: Caller) -> None:
        caller.wait_until_closed()

    with Acceptor(silent) as acceptor, pytest.raises(PeerUnreachable) as caught:
        echo(replace(address(acceptor.port, tls), timeout_s=0.5))
    assert "did not end the TLS handshake in time" in caught.value.message


@pytest.mark.witness
def test_a_peer_that_wants_tls_is_not_spoken_to_without(
    servers: dict[str, Holder], tmp_path: Path, free_port: int, require_program: RequireProgram
) -> None:
    options: list[str | Path] = ["+tls", servers["right"].key, servers["right"].certificate, "-ic"]
    with (
        storescp(require_program("storescp"), tmp_path / "received", free_port, *options),
        pytest.raises(PeerUnreachable) as caught,
    ):
        echo(address(free_port, None))
    assert caught.value.hint


@pytest.mark.parametrize("key", ["authorities", "certificate", "key"])
def test_a_file_that_cannot_be_used_is_named_with_its_key(
    key: str, tls: ClientTls, tmp_path: Path, free_port: int
) -> None:
    broken = tmp_path / "broken.pem"
    broken.write_text("nothing")
    files = {"authorities": tls.authorities, "certificate": tls.certificate, "key": tls.key}
    authorities, certificate, own_key = (files | {key: broken}).values()
    assert authorities is not None
    tls = replace(tls, authorities=authorities, certificate=certificate, key=own_key)
    error = failure(free_port, tls)
    assert "our files for it cannot be used" in error.message
    assert f"peers.archive.tls.{key}: {broken} holds no PEM block" in error.hint
    shared = failure(free_port, replace(tls, shared=frozenset({key})))
    assert shared.hint.startswith(f"tls.{key}: {broken}")


def failure(port: int, tls: ClientTls) -> PeerUnreachable:
    with pytest.raises(PeerUnreachable) as caught:
        echo(address(port, tls))
    assert caught.value.message.startswith("ARCHIVE at 127.0.0.1 port ")
    return caught.value
