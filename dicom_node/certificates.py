"""The PEM files of TLS, read into an SSL context of either end; every mistake in them at once.

Python's `ssl` does not tell when our own certificate or a revocation list ends, so their dates are
read from the DER here (RFC 5280 4.1 and 5.1); everything else of X.509 is OpenSSL's.
"""

from __future__ import annotations

import binascii
import math
import re
import ssl
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from dicom_node.config.settings import TlsSettings
from dicom_node.errors import ConfigError, Mistake

CIPHER_SUITES = (
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-RSA-AES128-GCM-SHA256",
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-RSA-AES256-GCM-SHA384",
)
"""For TLS 1.2, by PS3.15 B.12 and RFC 9325 4.2, which no longer wants the DHE suites of B.10."""

_LABELS = {
    "certificate": "CERTIFICATE",
    "key": "PRIVATE KEY",
    "authorities": "CERTIFICATE",
    "revocation_list": "X509 CRL",
}
_FILE_KEYS = tuple(_LABELS)
_PEM = r"-----BEGIN {0}-----([A-Za-z0-9+/=\s]+)-----END {0}-----"
_UTC_TIME = 0x17
_COMMON_NAME = b"\x55\x04\x03"  # 2.5.4.3
_DAMAGED = "is damaged or cut off"
_MISFITS = ("KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH", "NO_CERTIFICATE_ASSIGNED")
_WORDS = {
    "EE_KEY_TOO_SMALL": "has a key that is too short; RSA needs 2048 bits, ECDSA 256",
    "CA_KEY_TOO_SMALL": "has an authority whose key is too short; RSA needs 2048 bits",
    "CA_MD_TOO_WEAK": "is signed with SHA-1 or MD5, which nobody may trust any more",
}


_Element = tuple[int, bytes]
"""Tag and content of one element of DER."""


@dataclass(frozen=True)
class Validity:
    """From when to when a certificate or a revocation list counts, in seconds since the epoch."""

    key: str
    file: Path
    name: str
    """The common name of whom it certifies, or of who issued the list."""
    starts_at: float
    ends_at: float


@dataclass(frozen=True)
class Loaded:
    """What the files of `tls:` hold."""

    context: ssl.SSLContext
    validities: tuple[Validity, ...]


def files_of(settings: TlsSettings) -> dict[str, Path]:
    """Return the PEM files that are set, by key."""
    return {key: file for key in _FILE_KEYS if (file := getattr(settings, key)) is not None}


def load(settings: TlsSettings) -> Loaded:
    """Read the files.

    Returns
    -------
    Loaded
        The context takes TLS 1.2 or 1.3 without compression, renegotiation, tickets or ALPN.

    Raises
    ------
    ConfigError
        With every mistake; its file is the PEM file, its key the one of node.yaml.

    References
    ----------
    PS3.15 B.12 (BCP 195 RFC 8996, 9325 TLS Secure Transport Connection Profile)
    """
    files = files_of(settings)
    return _load(_server_context(settings), files, {key: f"tls.{key}" for key in files})


def load_for_requesting(
    files: Mapping[str, Path], key_names: Mapping[str, str], minimum_version: str
) -> Loaded:
    """Read the files that are needed to open connections.

    Parameters
    ----------
    files : mapping of str to Path
        `authorities`, and `certificate` with `key` if the peer is to be shown one.
    key_names : mapping of str to str
        The keys of node.yaml that name them.

    Returns
    -------
    Loaded
        The context lets no peer pass whose certificate is not from the authorities, or is for
        another name.

    Raises
    ------
    ConfigError
        As `load`.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    _restrict(context, minimum_version)
    return _load(context, dict(files), key_names)


def _load(context: ssl.SSLContext, files: dict[str, Path], key_names: Mapping[str, str]) -> Loaded:
    validities: list[Validity] = []
    mistakes: dict[str, str] = {}
    for key, file in files.items():
        try:
            validities += _read(key, file)
        except ValueError as error:
            mistakes[key] = str(error)
    good = files.keys() - mistakes.keys()
    if good >= {"certificate", "key"}:
        mistakes |= _load_own(context, files)
    for key in sorted(good & {"authorities", "revocation_list"}):
        mistakes |= _load_others(context, key, files[key])
    if mistakes:
        found = [Mistake(str(files[key]), 0, key_names[key], mistakes[key]) for key in mistakes]
        raise ConfigError(mistakes=found)
    return Loaded(context, tuple(validities))


def _restrict(context: ssl.SSLContext, minimum_version: str) -> None:
    """Allow what PS3.15 B.12 allows, and trust what stands in `authorities` as it is."""
    older = minimum_version == "1.2"
    context.minimum_version = ssl.TLSVersion.TLSv1_2 if older else ssl.TLSVersion.TLSv1_3
    # Level 2 asks for 112 bits of security everywhere, so for RSA keys of 2048 bits (RFC 9325 4.5).
    context.set_ciphers(":".join(("@SECLEVEL=2", *CIPHER_SUITES)))
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    # A root, an issuing authority without its root, or a certificate that a peer signed for itself.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN


def _server_context(settings: TlsSettings) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _restrict(context, settings.minimum_version)
    context.options |= ssl.OP_CIPHER_SERVER_PREFERENCE
    # A resumed session skips the look at the peer's certificate. TLS 1.2 can still resume by
    # session ID, which Python cannot switch off; that cache dies with its context, at a new list.
    context.options |= ssl.OP_NO_TICKET
    context.num_tickets = 0
    if settings.require_client_certificate:
        context.verify_mode = ssl.CERT_REQUIRED
    elif settings.authorities is not None:
        context.verify_mode = ssl.CERT_OPTIONAL
    if settings.revocation_list is not None:
        context.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF
    return context


def _read(key: str, file: Path) -> list[Validity]:
    """Return what a PEM file says of its dates; ValueError says what is wrong with it."""
    try:
        content = file.read_bytes()
    except OSError as error:
        raise ValueError(f"cannot be read: {error.strerror}") from error
    text = content.decode("utf-8", errors="replace")
    if key == "key" and "ENCRYPTED" in text:
        raise ValueError(
            "is protected with a passphrase; `openssl pkey -in FILE -out NEW` removes it"
        )
    label = _LABELS[key]
    if not re.search(rf"-----BEGIN [A-Z0-9 ]*{label}-----", text):
        der = " (it looks like DER; openssl converts it)" if content[:1] == b"\x30" else ""
        raise ValueError(f"holds no PEM block `BEGIN {label}`{der}")
    try:
        return list(_validities(key, file, text))
    except (ValueError, LookupError) as error:
        raise ValueError(_DAMAGED) from error


def _load_own(context: ssl.SSLContext, files: dict[str, Path]) -> dict[str, str]:
    try:
        context.load_cert_chain(files["certificate"], files["key"], password="")
    except OSError as error:
        reason = getattr(error, "reason", None) or ""
        if reason in _MISFITS:
            first = f"the first certificate in {files['certificate']}, which must be the node's own"
            return {"key": f"does not fit to {first}"}
        return {"certificate": _WORDS.get(reason, f"or its key {_DAMAGED}")}
    return {}


def _load_others(context: ssl.SSLContext, key: str, file: Path) -> dict[str, str]:
    try:
        context.load_verify_locations(file)
    except OSError:
        return {key: _DAMAGED}
    return {}


# ------------------------------------------------------------ when they end


def _validities(key: str, file: Path, text: str) -> Iterator[Validity]:
    if key == "key":
        return
    for match in re.finditer(_PEM.format(_LABELS[key]), text):
        [(_, whole)] = _elements(binascii.a2b_base64(match[1]))
        (_, signed), *_ = _elements(whole)
        fields = list(_elements(signed))
        yield (_of_list if key == "revocation_list" else _of_certificate)(key, file, fields)


def _of_certificate(key: str, file: Path, fields: list[_Element]) -> Validity:
    """Read a TBSCertificate: [version], serial, signature, issuer, validity, subject, ..."""
    if fields[0][0] == 0xA0:
        del fields[0]
    starts_at, ends_at = _elements(fields[3][1])
    return Validity(key, file, _common_name(fields[4][1]), _time(*starts_at), _time(*ends_at))


def _of_list(key: str, file: Path, fields: list[_Element]) -> Validity:
    """Read a TBSCertList: [version], signature, issuer, thisUpdate, [nextUpdate], ..."""
    if fields[0][0] == 0x02:
        del fields[0]
    starts_at, *rest = (_time(*field) for field in fields[2:4] if field[0] in (_UTC_TIME, 0x18))
    return Validity(key, file, _common_name(fields[1][1]), starts_at, *(rest or [math.inf]))


def _common_name(name: bytes) -> str:
    """Return the last common name of a Name, a SEQUENCE of SETs of (type, value)."""
    attributes = (list(_elements(pair)) for _, rdn in _elements(name) for _, pair in _elements(rdn))
    found = [value[1] for kind, value in attributes if kind[1] == _COMMON_NAME]
    return found[-1].decode("utf-8", errors="replace") if found else "no name"


def _elements(der: bytes) -> Iterator[_Element]:
    """Yield tag and content of each element, one after the other (X.690 8.1)."""
    at = 0
    while at < len(der):
        tag, length = der[at], der[at + 1]
        at += 2
        if length & 0x80:
            octets = length & 0x7F
            length = int.from_bytes(der[at : at + octets], "big")
            at += octets
        yield tag, der[at : at + length]
        at += length


def _time(tag: int, content: bytes) -> float:
    """Return a UTCTime, whose years end in 2049, or a GeneralizedTime (RFC 5280 4.1.2.5)."""
    text = content.decode("ascii")
    if tag == _UTC_TIME:
        text = ("20" if int(text[:2]) < 50 else "19") + text
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC).timestamp()
