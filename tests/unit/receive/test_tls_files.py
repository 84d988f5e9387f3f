"""The PEM files of `tls:`: they change while the node runs, they end, they are broken."""

from __future__ import annotations

import ssl
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from dicom_node.config.settings import TlsSettings
from dicom_node.errors import ConfigError
from dicom_node.receive.tls import TlsDoor, expired
from tests.certificates import P256, RSA, Certificates
from tests.unit.receive.handshakes import IN_2026, Door, HandClock, Line, peer, settings

DAY_S = 86400.0

RequireProgram = Callable[[str], Path]


# ------------------------------------------------------------ files that change


def test_as_long_as_no_file_changes_the_context_stays_the_same(door: Door) -> None:
    first = door.tls.context()
    assert [door.look() for _ in range(3)] == [first] * 3
    assert door.events == []


def test_a_new_certificate_is_taken_up_for_the_next_connection(
    door: Door, certificates: Certificates, line: Line
) -> None:
    client = peer(certificates.authority.certificate, certificates.ct1)
    before = line.shake(door.tls.context(), client)
    renewed = certificates.authority.certify("node.hospital.example", key=RSA)
    door.replace("certificate", renewed.certificate)
    door.replace("key", renewed.key)
    after = line.shake(door.look(), client)
    shown = [shaken.peer.getpeercert(binary_form=True) for shaken in (before, after)]
    assert shown[0] != shown[1] == ssl.PEM_cert_to_DER_cert(renewed.certificate.read_text())
    [(name, reason)] = door.events
    assert name == "TLS_RELOADED"
    assert "certificate.pem" in reason
    before.node.send(b"still open")
    assert before.peer.recv(10) == b"still open"


def test_the_files_are_looked_at_once_a_second_and_not_for_each_connection(
    door: Door, certificates: Certificates
) -> None:
    first = door.tls.context()
    door.replace("revocation_list", certificates.authority.revocation_list(door.folder / "new"))
    door.clock.now += 0.9
    assert door.tls.context() is first
    door.clock.now += 0.2
    assert door.tls.context() is not first


def test_a_clock_that_was_set_back_does_not_stop_the_looking(
    door: Door, certificates: Certificates
) -> None:
    first = door.tls.context()
    door.replace("revocation_list", certificates.authority.revocation_list(door.folder / "new"))
    door.clock.now -= 3600
    assert door.tls.context() is not first


def test_a_certificate_that_is_revoked_is_out_from_the_next_connection_on(
    door: Door, certificates: Certificates, line: Line, tmp_path: Path
) -> None:
    stolen = certificates.authority.certify("ct7")
    client = peer(certificates.authority.certificate, stolen)
    assert line.shake(door.look(), client).certificate is not None
    certificates.authority.revoke(stolen)
    door.replace("revocation_list", certificates.authority.revocation_list(tmp_path / "new.pem"))
    assert "was revoked" in line.shake(door.look(), client).words
    assert door.names() == ["TLS_RELOADED"]


def test_an_authority_that_is_appended_lets_its_peers_in(
    door: Door, certificates: Certificates, line: Line, tmp_path: Path
) -> None:
    door = Door(certificates, tmp_path / "other", revocation_list=None)
    client = peer(certificates.authority.certificate, certificates.unknown)
    assert "does not know" in line.shake(door.look(), client).words
    stranger = certificates.unknown.certificate.parent / "authority.pem"
    with (door.folder / "authorities.pem").open("ab") as file:
        file.write(stranger.read_bytes())
    assert line.shake(door.look(), client).certificate is not None


@pytest.mark.parametrize("key", ["certificate", "key", "authorities", "revocation_list"])
@pytest.mark.parametrize("how", ["cut off", "empty", "gone", "nonsense"])
def test_a_broken_set_changes_nothing_and_is_told_of_once(
    key: str, how: str, door: Door, certificates: Certificates, line: Line
) -> None:
    before = door.tls.context()
    file = door.folder / f"{key}.pem"
    whole = file.read_bytes()
    if how == "gone":
        file.unlink()
    else:
        file.write_bytes({"cut off": whole[:-60], "empty": b"", "nonsense": b"\x00\xff"}[how])
    assert [door.look() for _ in range(5)] == [before] * 5
    [(name, reason)] = door.events
    assert name == "TLS_RELOAD_FAILED"
    assert f"tls.{key}: " in reason or (key == "key" and how == "cut off")
    assert str(file) in reason or (key == "key" and how == "cut off")
    assert "goes on with what it had loaded before" in reason
    client = peer(certificates.authority.certificate, certificates.ct1)
    assert line.shake(door.look(), client).certificate is not None
    file.write_bytes(whole)
    assert door.look() is not before
    assert door.names() == ["TLS_RELOAD_FAILED", "TLS_RELOADED"]


def test_a_key_that_does_not_fit_is_told_of_as_such(door: Door, certificates: Certificates) -> None:
    door.replace("key", certificates.authority.certify("node", key=RSA).key)
    door.look()
    door.look()
    [(name, reason)] = door.events
    assert name == "TLS_RELOAD_FAILED"
    assert "tls.key: " in reason
    assert "does not fit to the first certificate" in reason


def test_nothing_is_told_between_the_new_certificate_and_the_new_key(
    door: Door, certificates: Certificates
) -> None:
    before = door.tls.context()
    renewed = certificates.authority.certify("node.hospital.example", key=RSA)
    door.replace("certificate", renewed.certificate)
    assert door.look() is before  # the script copies the key just now
    door.replace("key", renewed.key)
    assert door.look() is not before
    assert door.names() == ["TLS_RELOADED"]


def test_a_second_mistake_is_told_of_too(door: Door, certificates: Certificates) -> None:
    (door.folder / "key.pem").write_bytes(b"")
    door.look()
    door.look()
    (door.folder / "authorities.pem").write_bytes(b"")
    door.look()
    door.look()
    assert door.names() == ["TLS_RELOAD_FAILED"] * 2
    assert "tls.authorities" in door.events[1][1]


def test_files_are_followed_where_a_folder_on_the_way_is_a_link_that_moves(
    certificates: Certificates, tmp_path: Path
) -> None:
    """As Kubernetes renews what it mounts."""
    for version in ("1", "2"):
        (tmp_path / version).mkdir()
        certificates.authority.revocation_list(tmp_path / version / "crl.pem")
    (tmp_path / "data").symlink_to("1")
    (tmp_path / "crl.pem").symlink_to("data/crl.pem")
    events: list[str] = []
    clock = HandClock()
    tls = TlsDoor(
        settings(certificates, revocation_list=tmp_path / "crl.pem"),
        clock,
        lambda name, reason: events.append(name),
    )
    (tmp_path / "new").symlink_to("2")
    (tmp_path / "new").replace(tmp_path / "data")
    clock.now += 1
    tls.context()
    assert events == ["TLS_RELOADED"]


# ------------------------------------------------------------ dates that come near


def node_ending(certificates: Certificates, ends: str) -> dict[str, object]:
    own = certificates.authority.certify("node.hospital.example", starts=STARTS, ends=ends)
    return {"certificate": own.certificate, "key": own.key}


STARTS, ENDS = "20260101000000Z", "20270101000000Z"
END = datetime(2027, 1, 1, tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("days_left", "name"),
    [(60, None), (30.1, None), (29.9, "TLS_EXPIRING"), (0.1, "TLS_EXPIRING"), (0, "TLS_EXPIRED"),
     (-40, "TLS_EXPIRED")],
)  # fmt: skip
def test_the_nodes_certificate_is_told_of_before_it_ends_and_after(
    days_left: float, name: str | None, certificates: Certificates, tmp_path: Path
) -> None:
    door = Door(certificates, tmp_path / "etc", **node_ending(certificates, ENDS))
    door.tls.check_expiry(END - days_left * DAY_S)
    assert door.names() == ([] if name is None else [name])
    for _, reason in door.events:
        assert "certificate of node.hospital.example" in reason
        assert "2027-01-01 00:00 UTC" in reason
        assert "tls.certificate" in reason
        assert "without a restart" in reason


def test_how_early_is_configured(certificates: Certificates, tmp_path: Path) -> None:
    ending = node_ending(certificates, ENDS)
    for warn_days, names in ((0, []), (7, []), (60, ["TLS_EXPIRING"])):
        door = Door(certificates, tmp_path / f"{warn_days}", warn_days=warn_days, **ending)
        door.tls.check_expiry(END - 20 * DAY_S)
        assert door.names() == names


def test_it_is_told_once_a_day_however_often_it_is_asked(
    certificates: Certificates, tmp_path: Path
) -> None:
    door = Door(certificates, tmp_path / "etc", **node_ending(certificates, ENDS))
    for hour in range(48):
        door.tls.check_expiry(END - 10 * DAY_S + hour * 3600)
    assert door.names() == ["TLS_EXPIRING"] * 2
    assert "in 10 days" in door.events[0][1]
    assert "in 9 days" in door.events[1][1]


def test_a_new_revocation_list_does_not_tell_of_the_certificate_again(
    certificates: Certificates, tmp_path: Path
) -> None:
    door = Door(certificates, tmp_path / "etc", **node_ending(certificates, ENDS))
    door.tls.check_expiry(END - DAY_S)
    door.replace("revocation_list", certificates.authority.revocation_list(tmp_path / "new.pem"))
    door.look()
    door.tls.check_expiry(END - DAY_S + 3600)
    assert door.names() == ["TLS_EXPIRING", "TLS_RELOADED"]


def test_a_renewed_certificate_is_told_of_no_more(
    certificates: Certificates, tmp_path: Path
) -> None:
    door = Door(certificates, tmp_path / "etc", **node_ending(certificates, ENDS))
    door.tls.check_expiry(END - DAY_S)
    door.replace("certificate", certificates.node.certificate)
    door.replace("key", certificates.node.key)
    door.look()
    door.tls.check_expiry(END)
    assert door.names() == ["TLS_EXPIRING", "TLS_RELOADED"]


def test_a_revocation_list_that_lives_a_week_is_told_of_in_its_last_quarter(
    certificates: Certificates, tmp_path: Path
) -> None:
    """With 30 days of warning, a list that is renewed each week would never be silent."""
    weekly = certificates.authority.revocation_list(
        tmp_path / "weekly.pem", starts="20261225000000Z", ends=ENDS
    )
    door = Door(certificates, tmp_path / "etc", revocation_list=weekly)
    door.tls.check_expiry(END - 2 * DAY_S)
    assert door.events == []
    door.tls.check_expiry(END - 1.5 * DAY_S)
    door.tls.check_expiry(END + 60)
    assert door.names() == ["TLS_EXPIRING", "TLS_EXPIRED"]
    assert "revocation list of Hospital CA" in door.events[0][1]
    assert "every peer of that authority is refused" in door.events[1][1]


def test_an_authority_that_ends_is_told_of_by_its_name(
    certificates: Certificates, tmp_path: Path
) -> None:
    door = Door(certificates, tmp_path / "etc", revocation_list=None)
    door.tls.check_expiry(datetime(2060, 1, 1, tzinfo=UTC).timestamp())
    assert door.names() == ["TLS_EXPIRED"] * 2
    assert any("the authority Hospital CA" in reason for _, reason in door.events)


# ------------------------------------------------------------ files that cannot be used


def test_every_mistake_in_the_files_comes_at_once_with_file_and_key(
    certificates: Certificates, tmp_path: Path
) -> None:
    empty = tmp_path / "empty.pem"
    empty.touch()
    with pytest.raises(ConfigError) as caught:
        TlsDoor(
            settings(
                certificates,
                certificate=tmp_path / "nowhere.pem",
                key=empty,
                authorities=tmp_path,
                revocation_list=certificates.authority.certificate,
            ),
            HandClock(),
        )
    found = {mistake.key: (mistake.file, mistake.message) for mistake in caught.value.mistakes}
    assert found == {
        "tls.certificate": (
            str(tmp_path / "nowhere.pem"),
            "cannot be read: No such file or directory",
        ),
        "tls.key": (str(empty), "holds no PEM block `BEGIN PRIVATE KEY`"),
        "tls.authorities": (str(tmp_path), "cannot be read: Is a directory"),
        "tls.revocation_list": (
            str(certificates.authority.certificate),
            "holds no PEM block `BEGIN X509 CRL`",
        ),
    }


def mistake_in(given: TlsSettings) -> tuple[str, str]:
    with pytest.raises(ConfigError) as caught:
        TlsDoor(given, HandClock())
    [mistake] = caught.value.mistakes
    return mistake.key, mistake.message


@pytest.mark.parametrize("key", [P256, RSA])
def test_a_key_must_fit_to_the_first_certificate_of_its_file(
    key: tuple[str, ...], certificates: Certificates
) -> None:
    other = certificates.authority.certify("other", key=key)
    where, what = mistake_in(settings(certificates, key=other.key))
    assert where == "tls.key"
    assert "does not fit to the first certificate in" in what


@pytest.mark.parametrize("command", ["pkey", "rsa -traditional"])
def test_a_key_with_a_passphrase_is_refused_and_nobody_is_asked_for_it(
    command: str, certificates: Certificates, tmp_path: Path, require_program: RequireProgram
) -> None:
    locked = tmp_path / "locked.key"
    options = [*command.split(), "-aes256", "-passout", "pass:secret"]
    subprocess.run(
        [require_program("openssl"), *options, "-in", certificates.node.key, "-out", locked],
        check=True,
        capture_output=True,
    )
    where, what = mistake_in(settings(certificates, key=locked))
    assert where == "tls.key"
    assert "`openssl pkey -in FILE -out NEW` removes it" in what


def test_der_is_no_pem(
    certificates: Certificates, tmp_path: Path, require_program: RequireProgram
) -> None:
    der = tmp_path / "node.der"
    command: list[str | Path] = [require_program("openssl"), "x509", "-outform", "DER"]
    subprocess.run([*command, "-in", certificates.node.certificate, "-out", der], check=True)
    where, what = mistake_in(settings(certificates, certificate=der))
    assert where == "tls.certificate"
    assert "it looks like DER" in what


def test_a_short_key_of_the_nodes_own_is_refused_at_once(certificates: Certificates) -> None:
    short = certificates.authority.certify("node", key=("-newkey", "rsa:1024"))
    where, what = mistake_in(settings(certificates, certificate=short.certificate, key=short.key))
    assert where == "tls.certificate"
    assert "RSA needs 2048 bits" in what


def test_a_block_of_nonsense_is_damaged_and_no_traceback(
    certificates: Certificates, tmp_path: Path
) -> None:
    for inside in ("AAAA", "MAA=", "MIIB", "MAMCAQA=", "MAUwAwIBAA=="):
        nonsense = tmp_path / "nonsense.pem"
        for key, label in (("authorities", "CERTIFICATE"), ("revocation_list", "X509 CRL")):
            nonsense.write_text(f"-----BEGIN {label}-----\n{inside}\n-----END {label}-----\n")
            given = settings(certificates, **{key: nonsense})
            assert mistake_in(given) == (f"tls.{key}", "is damaged or cut off")


def test_what_has_ended_is_listed_for_the_check(certificates: Certificates, tmp_path: Path) -> None:
    old = certificates.expired
    given = settings(certificates, certificate=old.certificate, key=old.key)
    [(key, reason)] = expired(given, IN_2026)
    assert key == "certificate"
    assert "ended on 2021-01-01 00:00 UTC; peers refuse the node" in reason
    assert expired(settings(certificates), IN_2026) == []


def test_an_authority_that_ended_does_no_harm_beside_one_that_has_not(
    certificates: Certificates, tmp_path: Path
) -> None:
    both = tmp_path / "both.pem"
    texts = [certificates.authority.certificate, certificates.expired.certificate]
    both.write_bytes(b"".join(file.read_bytes() for file in texts))
    assert expired(settings(certificates, authorities=both), IN_2026) == []
    alone = settings(certificates, authorities=certificates.expired.certificate)
    assert [key for key, _ in expired(alone, IN_2026)] == ["authorities"]
