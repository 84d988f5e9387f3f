"""Certificates made with openssl while the tests run: authorities, a node, good and bad peers."""

from __future__ import annotations

import hashlib
import ssl
import subprocess
from dataclasses import dataclass
from pathlib import Path

CONFIGURATION = """\
[ca]
default_ca = authority
[authority]
dir = {folder}
database = $dir/index.txt
serial = $dir/serial
crlnumber = $dir/crlnumber
new_certs_dir = $dir
certificate = $dir/authority.pem
private_key = $dir/authority.key
default_md = sha256
policy = anything
copy_extensions = copy
unique_subject = no
x509_extensions = leaf
[anything]
commonName = supplied
[leaf]
basicConstraints = critical, CA:FALSE
[root]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign, cRLSign
[req]
distinguished_name = name
[name]
"""
ENDS = "20500101000000Z"
P256 = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256")
RSA = ("-newkey", "rsa:2048")


@dataclass(frozen=True)
class Holder:
    """A certificate and the key to it, as PEM files."""

    certificate: Path
    key: Path

    @property
    def sha256(self) -> str:
        """The fingerprint, as a person would read it with `openssl x509 -fingerprint -sha256`."""
        der = ssl.PEM_cert_to_DER_cert(self.certificate.read_text("ascii"))
        return hashlib.sha256(der).hexdigest()


class Authority:
    """A certification authority in a folder of its own.

    Parameters
    ----------
    openssl : Path
        The program.
    folder : Path
        Is made; all files of this authority and those whom it certifies lie there.
    name : str
        Its common name.
    certified_by : Authority, optional
        The authority above it; it is a root without one.
    """

    def __init__(
        self, openssl: Path, folder: Path, name: str, certified_by: Authority | None = None
    ) -> None:
        folder.mkdir()
        self._openssl = openssl
        self.folder = folder
        self.certificate = folder / "authority.pem"
        self._configuration = folder / "openssl.cnf"
        self._configuration.write_text(CONFIGURATION.format(folder=folder))
        (folder / "index.txt").touch()
        (folder / "serial").write_text("1000\n")
        (folder / "crlnumber").write_text("1000\n")
        key = folder / "authority.key"
        if certified_by is not None:
            holder = certified_by.certify(name, kind="root")
            self.certificate.write_bytes(holder.certificate.read_bytes())
            key.write_bytes(holder.key.read_bytes())
            return
        self._run("req", "-x509", *P256, "-nodes", "-keyout", key, "-out", self.certificate,
                  "-subj", f"/CN={name}", "-days", "9000", "-extensions", "root")  # fmt: skip

    def certify(
        self,
        name: str,
        *,
        starts: str = "20200101000000Z",
        ends: str = ENDS,
        key: tuple[str, ...] = P256,
        extensions: tuple[str, ...] = (),
        kind: str = "leaf",
    ) -> Holder:
        """Return a new certificate; times as YYYYMMDDHHMMSSZ, extensions as in openssl.cnf."""
        number = (self.folder / "serial").read_text().strip()
        holder = Holder(self.folder / f"{number}-peer.pem", self.folder / f"{number}-peer.key")
        request = self.folder / f"{number}.csr"
        added = [part for extension in extensions for part in ("-addext", extension)]
        self._run("req", *key, "-nodes", "-keyout", holder.key, "-out", request,
                  "-subj", f"/CN={name}", *added)  # fmt: skip
        self._run("ca", "-batch", "-notext", "-startdate", starts, "-enddate", ends,
                  "-extensions", kind, "-in", request, "-out", holder.certificate)  # fmt: skip
        return holder

    def revoke(self, holder: Holder) -> None:
        self._run("ca", "-revoke", holder.certificate)

    def revocation_list(
        self, file: Path, *, starts: str = "20200101000000Z", ends: str = ENDS
    ) -> Path:
        """Write the list of what was revoked so far to `file`; return it."""
        self._run("ca", "-gencrl", "-crl_lastupdate", starts, "-crl_nextupdate", ends,
                  "-out", file)  # fmt: skip
        return file

    def _run(self, command: str, *arguments: str | Path) -> None:
        whole = [self._openssl, command, "-config", self._configuration, *arguments]
        done = subprocess.run(whole, capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == 0, done.stderr


@dataclass(frozen=True)
class Certificates:
    """What the tests of DICOM TLS need. The authority goes on certifying; the files stay."""

    authority: Authority
    node: Holder
    ct1: Holder
    ct2: Holder
    expired: Holder
    revoked: Holder
    unknown: Holder
    """From an authority that the node does not know."""
    revocation_list: Path


def make_certificates(openssl: Path, folder: Path) -> Certificates:
    authority = Authority(openssl, folder / "hospital", "Hospital CA")
    stranger = Authority(openssl, folder / "stranger", "Stranger CA")
    revoked = authority.certify("ct-stolen.hospital.example")
    authority.revoke(revoked)
    names = "subjectAltName=DNS:ct2.hospital.example,DNS:ct2"
    return Certificates(
        authority=authority,
        node=authority.certify("node.hospital.example", key=RSA),  # DCMTK 3.6.7 offers RSA alone
        ct1=authority.certify("ct1.hospital.example"),
        ct2=authority.certify("CT 2", extensions=(names,)),
        expired=authority.certify("ct-old.hospital.example", ends="20210101000000Z"),
        revoked=revoked,
        unknown=stranger.certify("ct1.hospital.example"),
        revocation_list=authority.revocation_list(folder / "revoked.pem"),
    )
