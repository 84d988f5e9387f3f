"""`dicom-node check` reads the files of `tls:` too."""

from __future__ import annotations

from pathlib import Path

from tests.certificates import Certificates
from tests.unit.cli.sites import Site


def with_tls(site: Site, certificate: Path, key: Path, authorities: Path) -> None:
    with site.config.open("a", encoding="utf-8") as file:
        file.write(
            f"tls:\n  port: 2762\n  certificate: {certificate}\n  key: {key}\n"
            f"  authorities: {authorities}\n"
        )


def check(site: Site) -> tuple[int, str]:
    result = site.call("check", "--no-echo")
    return result.exit_code, result.output


def line_of(site: Site, key: str) -> int:
    lines = site.config.read_text("utf-8").splitlines()
    return next(number for number, line in enumerate(lines, 1) if line.startswith(f"  {key}: "))


def test_good_files_are_no_mistake(site: Site, certificates: Certificates) -> None:
    own = certificates.node
    with_tls(site, own.certificate, own.key, certificates.authority.certificate)
    assert check(site) == (0, "configuration, rules and engines: no mistake\n")


def test_a_key_that_does_not_fit_is_a_mistake_at_its_line(
    site: Site, certificates: Certificates
) -> None:
    own, other = certificates.node, certificates.ct1
    with_tls(site, own.certificate, other.key, certificates.authority.certificate)
    code, output = check(site)
    assert code == 1
    assert f"{site.config}:{line_of(site, 'key')}: tls.key: {other.key} does not fit to" in output


def test_files_that_cannot_be_read_come_with_all_other_mistakes(
    site: Site, certificates: Certificates
) -> None:
    nowhere = site.folder / "nowhere.pem"
    with_tls(site, nowhere, certificates.node.key, nowhere)
    with site.config.open("a", encoding="utf-8") as file:
        file.write("  warn_days: 7\nledger:\n  url: nonsense\n")
    code, output = check(site)
    assert code == 1
    for key in ("certificate", "authorities"):
        where = f"{site.config}:{line_of(site, key)}: tls.{key}: "
        assert f"{where}{nowhere} cannot be read: No such file or directory" in output
    assert "ledger.url" in output


def test_a_certificate_that_has_ended_is_a_mistake(site: Site, certificates: Certificates) -> None:
    old = certificates.expired
    with_tls(site, old.certificate, old.key, certificates.authority.certificate)
    code, output = check(site)
    assert code == 1
    assert f"{site.config}:{line_of(site, 'certificate')}: tls.certificate: " in output
    assert "ended on 2021-01-01" in output


def test_files_are_not_read_while_tls_is_off(site: Site) -> None:
    with site.config.open("a", encoding="utf-8") as file:
        file.write("tls:\n  certificate: nowhere.pem\n")
    assert check(site)[0] == 0


# ------------------------------------------------------------ towards peers


def with_tls_to_the_archive(site: Site, section: str) -> None:
    text = site.config.read_text("utf-8")
    assert text.endswith(f"port: {site.port}\n")
    site.config.write_text(f"{text}    tls: {section}\n", "utf-8")


def test_good_files_for_a_peer_are_no_mistake(site: Site, certificates: Certificates) -> None:
    own, authorities = certificates.node, certificates.authority.certificate
    with_tls_to_the_archive(
        site, f"{{authorities: {authorities}, certificate: {own.certificate}, key: {own.key}}}"
    )
    assert check(site)[0] == 0


def test_files_for_a_peer_that_cannot_be_used_are_mistakes_at_its_line(
    site: Site, certificates: Certificates
) -> None:
    nowhere = site.folder / "nowhere.pem"
    own, other = certificates.node, certificates.ct1
    with_tls_to_the_archive(
        site, f"{{authorities: {nowhere}, certificate: {own.certificate}, key: {other.key}}}"
    )
    code, output = check(site)
    assert code == 1
    line = len(site.config.read_text("utf-8").splitlines())
    where = f"{site.config}:{line}: peers.archive.tls: peers.archive.tls"
    assert f"{where}.authorities: {nowhere} cannot be read" in output
    assert f"{where}.key: {other.key} does not fit to" in output


def test_a_certificate_for_a_peer_that_has_ended_is_a_mistake(
    site: Site, certificates: Certificates
) -> None:
    old, authorities = certificates.expired, certificates.authority.certificate
    with_tls_to_the_archive(
        site, f"{{authorities: {authorities}, certificate: {old.certificate}, key: {old.key}}}"
    )
    code, output = check(site)
    assert code == 1
    assert f"{old.certificate} (peers.archive.tls.certificate) has ended" in output
