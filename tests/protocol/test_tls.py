"""DICOM over TLS against the whole node, with DCMTK as the peer: who gets in, who does not."""

from __future__ import annotations

import os
import shutil
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from io import BytesIO
from pathlib import Path

import pydicom
import pytest
import yaml

from dicom_node.ledger.ledger import Ledger
from dicom_node.model import Event
from dicom_node.store.local import LocalStore
from tests.certificates import RSA, Certificates, Holder
from tests.node_process import ROOT, NodeProcess, wait_until
from tests.ports import free_port

HOST = "127.0.0.1"
NEGOTIATION_TIMEOUT_S = 3
AT_ONCE_S = 2.0
DAYS_LEFT = 10

RequireProgram = Callable[[str], Path]


@dataclass
class TlsNode:
    """A node that listens with and without TLS, and DCMTK to knock at it."""

    process: NodeProcess
    tls_port: int
    ledger: Ledger
    certificates: Certificates
    storescu: Path
    etc: Path
    """Where the node's PEM files lie, `tls.` keys as names."""
    refused: int = 0

    def store(
        self,
        files: list[Path],
        calling_ae_title: str,
        holder: Holder | None,
        port: int | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Send with DCMTK: by TLS with a certificate of its own; without one, by none at all."""
        command: list[str | Path] = [self.storescu, "-v", "--propose-jls-lossless"]
        command += ["-aet", calling_ae_title, "-aec", "DICOM_NODE"]
        if holder is not None:
            command += ["+tls", holder.key, holder.certificate]
            command += ["+cf", self.certificates.authority.certificate]
        return self.run([*command, HOST, str(port or self.tls_port), *files])

    def run(self, command: list[str | Path]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
            env=os.environ | {"TCP_NODELAY": "1"},
        )

    def rejection(self, knock: Callable[[], subprocess.CompletedProcess[str]]) -> Event:
        """Return the one REJECTED event that a refused attempt leaves."""
        done = knock()
        assert done.returncode != 0, done.stdout + done.stderr
        assert "Received Store Response (Success)" not in done.stdout + done.stderr
        self.refused += 1
        wait_until(lambda: len(self.rejections()) >= self.refused, 10, "the REJECTED event")
        rejections = self.rejections()
        assert len(rejections) == self.refused
        return rejections[-1]

    def rejections(self) -> list[Event]:
        return self.ledger.events.named("REJECTED")

    def replace(self, key: str, file: Path) -> None:
        copy = self.etc / "incoming"
        shutil.copy(file, copy)
        copy.replace(self.etc / key)


def without_engines(folder: Path) -> dict[str, str]:
    """Return what `node:` says where nothing is to be done with a study."""
    engines, rules = folder / "engines", folder / "rules.yaml"
    engines.mkdir()
    rules.write_text(yaml.safe_dump({"rules": []}))
    return {"engines_dir": str(engines), "rules_file": str(rules)}


def in_days(days: int) -> str:
    return (datetime.now(UTC) + timedelta(days=days)).strftime("%Y%m%d%H%M%SZ")


@pytest.fixture(scope="module")
def node(
    certificates: Certificates,
    require_program: RequireProgram,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[TlsNode]:
    storescu = require_program("storescu")
    folder = tmp_path_factory.mktemp("tls")
    etc = folder / "etc"
    etc.mkdir()
    own = certificates.authority.certify(
        "node.hospital.example", ends=in_days(DAYS_LEFT), key=RSA, starts="20260101000000Z"
    )
    files = {
        "certificate": own.certificate,
        "key": own.key,
        "authorities": certificates.authority.certificate,
        "revocation_list": certificates.revocation_list,
    }
    for key, file in files.items():
        shutil.copy(file, etc / key)
    tls_port = free_port()
    process = NodeProcess(
        folder / "node",
        free_port(),
        node=without_engines(folder),
        receive={"receivers": 1, "negotiation_timeout_s": NEGOTIATION_TIMEOUT_S},
        tls={"port": tls_port, **{key: str(etc / key) for key in files}},
        peers={
            "ct1": {
                "ae_title": "CT1",
                "may_send": True,
                "certificate_sha256": certificates.ct1.sha256,
            },
            "ct2": {
                "ae_title": "CT2",
                "may_send": True,
                "certificate_name": "CT2.hospital.example",
            },
            "unbound": {"ae_title": "UNBOUND", "may_send": True},
        },
    )
    process.start()
    ledger = process.ledger()
    running = TlsNode(process, tls_port, ledger, certificates, storescu, etc)
    yield running
    assert len(running.rejections()) == running.refused
    ledger.close()
    assert process.stop() == 0
    assert "Traceback" not in process.log()


@pytest.fixture(scope="module")
def image(data_dir: Path) -> list[Path]:
    return [data_dir / "ct-chest-lctsc-011" / "001.dcm"]


# ------------------------------------------------------------ who gets in


def test_instances_come_over_tls_as_they_were_sent(node: TlsNode, data_dir: Path) -> None:
    files = sorted((data_dir / "ct-chest-lctsc-011").glob("*.dcm"))[:20]
    done = node.store(files, "CT1", node.certificates.ct1)
    assert done.returncode == 0, done.stdout + done.stderr
    sent = {str(dataset.SOPInstanceUID): dataset for dataset in map(pydicom.dcmread, files)}
    study = str(next(iter(sent.values())).StudyInstanceUID)
    wait_until(
        lambda: len(node.ledger.studies.instances(study)) == len(files), 10, "the ledger's rows"
    )
    store = LocalStore(node.process.data)
    for instance in node.ledger.studies.instances(study):
        assert instance.calling_ae_title == "CT1"
        kept = pydicom.dcmread(BytesIO(store.file(instance.path).read_bytes()))
        assert kept.PixelData == sent[instance.sop_instance_uid].PixelData


@pytest.mark.parametrize(
    ("calling_ae_title", "holder"), [("CT2", "ct2"), ("UNBOUND", "ct1"), ("UNBOUND", "ct2")]
)
def test_a_peer_gets_in_with_the_name_that_it_is_bound_to_and_an_unbound_one_with_any(
    calling_ae_title: str, holder: str, node: TlsNode, image: list[Path]
) -> None:
    done = node.store(image, calling_ae_title, getattr(node.certificates, holder))
    assert done.returncode == 0, done.stdout + done.stderr


def test_an_unbound_peer_still_comes_in_without_tls(node: TlsNode, image: list[Path]) -> None:
    done = node.store(image, "UNBOUND", None, node.process.port)
    assert done.returncode == 0, done.stdout + done.stderr


# ------------------------------------------------------------ who does not


def test_another_certificate_than_the_bound_one_is_refused_with_the_line_that_admits_it(
    node: TlsNode, image: list[Path]
) -> None:
    other = node.certificates.ct2
    event = node.rejection(lambda: node.store(image, "CT1", other))
    assert event.subject == "CT1"
    assert f"`certificate_sha256: {other.sha256}`" in event.reason


def test_a_good_certificate_under_another_ae_title_is_refused_with_the_line_that_admits_it(
    node: TlsNode, image: list[Path]
) -> None:
    event = node.rejection(lambda: node.store(image, "CT2", node.certificates.ct1))
    assert event.subject == "CT2"
    assert '`certificate_name: "ct1.hospital.example"`' in event.reason


def test_a_bound_peer_is_refused_without_tls(node: TlsNode, image: list[Path]) -> None:
    event = node.rejection(lambda: node.store(image, "CT1", None, node.process.port))
    assert event.subject == "CT1"
    assert "came without TLS" in event.reason
    assert "`tls.port`" in event.reason


def test_an_unknown_ae_title_is_refused_with_the_best_of_certificates(
    node: TlsNode, image: list[Path]
) -> None:
    event = node.rejection(lambda: node.store(image, "NOBODY", node.certificates.ct1))
    assert "`ae_title: NOBODY`" in event.reason


@pytest.mark.parametrize(
    ("holder", "words"),
    [
        ("expired", "its certificate has expired; whoever runs the peer"),
        ("revoked", "its certificate was revoked by its authority"),
        ("unknown", "append that authority's certificate (PEM) to the file of `tls.authorities`"),
    ],
)
def test_a_bad_certificate_is_refused_in_the_handshake(
    holder: str, words: str, node: TlsNode, image: list[Path]
) -> None:
    event = node.rejection(lambda: node.store(image, "CT1", getattr(node.certificates, holder)))
    assert event.subject == HOST
    assert words in event.reason


def test_no_certificate_at_all_is_refused_in_the_handshake(
    node: TlsNode, image: list[Path]
) -> None:
    command: list[str | Path] = [node.storescu, "-aet", "CT1", "-aec", "DICOM_NODE", "+tla"]
    command += ["+cf", node.certificates.authority.certificate, HOST, str(node.tls_port), *image]
    event = node.rejection(lambda: node.run(command))
    assert "it showed no certificate" in event.reason


def test_a_peer_that_does_not_speak_tls_is_told_of_the_other_port(
    node: TlsNode, image: list[Path]
) -> None:
    event = node.rejection(lambda: node.store(image, "UNBOUND", None, node.tls_port))
    assert "it did not speak TLS on the TLS port" in event.reason
    assert "`receive.port`" in event.reason


def test_an_old_version_of_tls_is_refused(node: TlsNode, require_program: RequireProgram) -> None:
    command: list[str | Path] = [require_program("openssl"), "s_client", "-tls1_1"]
    command += ["-cipher", "ALL:@SECLEVEL=0", "-connect", f"{HOST}:{node.tls_port}"]
    event = node.rejection(lambda: node.run(command))
    assert "older than `tls.minimum_version`" in event.reason


def test_what_was_refused_is_listed_for_the_operator(node: TlsNode) -> None:
    listed = node.process.run_cli("status", "--refused")
    assert listed.returncode == 0
    for event in node.rejections():
        assert event.reason in listed.stdout


# ------------------------------------------------------------ who stalls


def is_closed(peer: socket.socket) -> bool:
    peer.settimeout(0)
    try:
        return peer.recv(1) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True


def test_peers_that_never_shake_hands_disturb_nobody_and_are_closed(
    node: TlsNode, image: list[Path]
) -> None:
    before = len(node.ledger.events.named("TIMED_OUT"))
    with ExitStack() as stack:
        silent = [
            stack.enter_context(socket.create_connection((HOST, node.tls_port))) for _ in range(8)
        ]
        silent[0].sendall(b"\x16\x03\x01\x02\x00\x01\x00")  # the beginning of a ClientHello
        started = time.monotonic()
        done = node.store(image, "CT1", node.certificates.ct1)
        assert done.returncode == 0, done.stdout + done.stderr
        assert time.monotonic() - started < AT_ONCE_S
        assert not any(map(is_closed, silent))
        wait_until(
            lambda: all(map(is_closed, silent)), NEGOTIATION_TIMEOUT_S + 5, "the node's close"
        )
    wait_until(
        lambda: len(node.ledger.events.named("TIMED_OUT")) >= before + 8, 10, "the TIMED_OUT events"
    )
    assert len(node.ledger.events.named("TIMED_OUT")) == before + 8


def test_a_peer_that_shakes_hands_one_byte_at_a_time_is_closed_when_its_time_is_over(
    node: TlsNode, require_program: RequireProgram
) -> None:
    """A slow trickle is progress, but no association."""
    with socket.create_connection((HOST, node.tls_port)) as trickling:
        trickling.sendall(b"\x16\x03\x01\x40\x00")
        started = time.monotonic()

        def went_on_and_was_closed() -> bool:
            with suppress(OSError):
                trickling.send(b"\x00")
            return is_closed(trickling)

        wait_until(went_on_and_was_closed, NEGOTIATION_TIMEOUT_S + 5, "the node's close")
        assert time.monotonic() - started > NEGOTIATION_TIMEOUT_S - 1


def test_connections_that_are_reset_before_they_are_accepted_harm_nobody(
    node: TlsNode, image: list[Path]
) -> None:
    started = node.process.log().count('"child_started"')
    for number in range(300):
        calling = socket.create_connection((HOST, node.tls_port))
        if number % 2:
            calling.sendall(b"\x16\x03\x01")
        calling.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        calling.close()
    done = node.store(image, "CT1", node.certificates.ct1)
    assert done.returncode == 0, done.stdout + done.stderr
    assert node.process.log().count('"child_started"') == started


# ------------------------------------------------------------ files that change


def test_a_certificate_that_ends_soon_is_told_of_at_the_start(node: TlsNode) -> None:
    wait_until(lambda: bool(node.ledger.events.named("TLS_EXPIRING")), 10, "the TLS_EXPIRING event")
    [event] = node.ledger.events.named("TLS_EXPIRING")
    assert "certificate of node.hospital.example" in event.reason
    assert "in 10 days" in event.reason


def test_a_stolen_certificate_is_out_once_its_list_is_in_the_file_without_a_restart(
    node: TlsNode, image: list[Path], tmp_path: Path
) -> None:
    authority = node.certificates.authority
    stolen = authority.certify("ct-to-be-stolen")
    assert node.store(image, "UNBOUND", stolen).returncode == 0
    before = len(node.ledger.events.named("TLS_RELOADED"))
    authority.revoke(stolen)
    node.replace("revocation_list", authority.revocation_list(tmp_path / "new.pem"))
    wait_until(lambda: is_reloaded(node, image, before), 20, "the new list to be taken up")
    event = node.rejection(lambda: node.store(image, "UNBOUND", stolen))
    assert "was revoked" in event.reason


def is_reloaded(node: TlsNode, image: list[Path], before: int) -> bool:
    assert node.store(image, "CT1", node.certificates.ct1).returncode == 0
    return len(node.ledger.events.named("TLS_RELOADED")) == before + 1


def test_a_broken_file_is_told_of_and_costs_no_connection(
    node: TlsNode, image: list[Path], tmp_path: Path
) -> None:
    whole = (node.etc / "key").read_bytes()
    broken = tmp_path / "broken"
    broken.write_bytes(whole[:100])
    node.replace("key", broken)

    def is_told() -> bool:
        assert node.store(image, "CT1", node.certificates.ct1).returncode == 0
        return bool(node.ledger.events.named("TLS_RELOAD_FAILED"))

    wait_until(is_told, 20, "the TLS_RELOAD_FAILED event")
    assert len(node.ledger.events.named("TLS_RELOAD_FAILED")) == 1
    broken.write_bytes(whole)
    before = len(node.ledger.events.named("TLS_RELOADED"))
    node.replace("key", broken)
    wait_until(lambda: is_reloaded(node, image, before), 20, "the whole key to be taken up")


# ------------------------------------------------------------ files that cannot be used


def test_a_node_whose_key_does_not_fit_does_not_start_and_says_so(
    certificates: Certificates, tmp_path: Path
) -> None:
    process = NodeProcess(
        tmp_path / "node",
        free_port(),
        node=without_engines(tmp_path),
        tls={
            "port": free_port(),
            "certificate": str(certificates.node.certificate),
            "key": str(certificates.ct1.key),
            "authorities": str(certificates.authority.certificate),
        },
    )
    done = subprocess.run(
        [sys.executable, "-m", "dicom_node", "serve", "--config", process.config_file],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
        cwd=ROOT,
    )
    assert done.returncode == 2
    assert "tls.key" in done.stdout + done.stderr
    assert "does not fit to the first certificate" in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
