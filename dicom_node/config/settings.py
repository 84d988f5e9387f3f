"""The node's configuration as frozen values; every key stands explained in config/node.yaml."""

from __future__ import annotations

import re
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
)

from dicom_node.conditions.keywords import is_bulk, is_ours, kind_of
from dicom_node.uid import is_ae_title, is_uid

_GPUS_MAX = 64
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


def _ae_title(text: str) -> str:
    if not is_ae_title(text):
        raise ValueError("must be 1 to 16 printable characters without a backslash")
    return text.strip(" ")


def _uid(text: str) -> str:
    if not is_uid(text):
        raise ValueError("must be a UID: digits and dots, up to 64 characters")
    return text


def _address_range(text: str) -> str:
    try:
        return str(ip_network(text, strict=False))
    except ValueError:
        raise ValueError("must be an address or a range: 10.1.2.3 or 10.1.0.0/16") from None


def _fingerprint(text: str) -> str:
    digits = re.sub(r"[: ]", "", text).lower()
    if not re.fullmatch(r"[0-9a-f]{64}", digits):
        raise ValueError("must be a SHA-256 fingerprint: 64 hexadecimal digits, colons allowed")
    return digits


def _certificate_name(text: str) -> str:
    name = text.strip()
    if not name or "*" in name:
        raise ValueError("must be one name, without wildcards")
    return name


def _keyword(text: str) -> str:
    if kind_of(text) is None or is_ours(text) or is_bulk(text):
        raise ValueError("must be the keyword of a DICOM attribute that holds values")
    return text


_HOURS = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9])-([01][0-9]|2[0-3]):([0-5][0-9])")


def _hours(text: str) -> str:
    if not _HOURS.fullmatch(text) or text[:5] == text[6:]:
        raise ValueError('must be two different times of the day in quotes, such as "22:00-06:00"')
    return text


def _one_or_several(value: object) -> object:
    return (value,) if isinstance(value, str) else value


def _as_written(value: object) -> object:
    return str(value) if isinstance(value, float) else value  # YAML reads 1.2 as a number


def _tls_of_a_peer(written: object) -> object:
    if written is True:
        return {}
    if written is False or written is None:
        return None
    if not isinstance(written, dict | PeerTls):
        raise ValueError("must be true, false, or a section with authorities, certificate, key")
    return written


def _server_url(text: str) -> str:
    try:
        parts = urlsplit(text)
        usable = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0
    except ValueError:  # a port that is no number
        usable = False
    if not usable:
        raise ValueError("must be a URL such as http://host:8000")
    return text


def _in_quotes(value: object) -> object:
    if value is None:
        raise ValueError('must be a name; of the runtime that answers zeros "null", in quotes')
    return value


def _devices(written: object) -> object:
    if written == "auto":
        return written
    devices = tuple(written) if isinstance(written, list | tuple) else ()
    ordinals = [device for device in devices if device != "cpu"]
    if not devices or not all(type(one) is int and 0 <= one < _GPUS_MAX for one in ordinals):
        raise ValueError("must be auto or a list of cpu and the numbers of GPUs, such as [0, 1]")
    if len(set(ordinals)) < len(ordinals):
        raise ValueError("must name each GPU once: it has one worker process")
    return devices


AddressRange = Annotated[str, AfterValidator(_address_range)]
AeTitle = Annotated[str, AfterValidator(_ae_title)]
CertificateName = Annotated[str, AfterValidator(_certificate_name)]
Fingerprint = Annotated[str, AfterValidator(_fingerprint)]
TlsVersion = Annotated[Literal["1.2", "1.3"], BeforeValidator(_as_written)]
Runtime = Annotated[
    Literal["auto", "onnxruntime", "openvino", "tensorrt", "kserve", "null"],
    BeforeValidator(_in_quotes),
]
ServerUrl = Annotated[str, AfterValidator(_server_url)]
Hours = Annotated[str, AfterValidator(_hours)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Uid = Annotated[str, AfterValidator(_uid)]
Keyword = Annotated[str, AfterValidator(_keyword)]
Port = Annotated[int, Field(ge=1, le=65535)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Devices = Annotated[Literal["auto"] | tuple[Literal["cpu"] | int, ...], PlainValidator(_devices)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Section(BaseModel):
    """A part of the configuration: frozen, and strict about names."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class NodeSettings(Section):
    ae_title: AeTitle = "DICOM_NODE"
    data_dir: Path = Path("/var/lib/dicom-node")
    engines_dir: Path = Path("../engines")
    rules_file: Path = Path("rules.yaml")
    log_level: Literal["debug", "info", "warning", "error"] = "info"


class LedgerSettings(Section):
    url: str | None = None


class ReceiveSettings(Section):
    host: str = "0.0.0.0"
    port: Annotated[int, Field(ge=0, le=65535)] = 11112
    receivers: Literal["auto"] | Annotated[int, Field(ge=1, le=64)] = "auto"
    admit_unknown_calling_ae_titles: bool = False
    require_called_ae_title: bool = True
    associations_max: Annotated[int, Field(ge=1)] = 500
    associations_per_peer_max: Annotated[int, Field(ge=1)] = 100
    connections_max: Annotated[int, Field(ge=1)] = 2000
    negotiation_timeout_s: Positive = 10
    read_timeout_s: Positive = 30
    idle_timeout_s: Positive = 60
    pdu_bytes_max: Annotated[int, Field(ge=4096, le=1048576)] = 131072
    instance_bytes_max: Annotated[int, Field(ge=1)] = 4_294_967_296
    free_bytes_min: Annotated[int, Field(ge=0)] = 1_000_000_000
    same_uid_other_bytes: Literal["replace", "keep", "refuse"] = "replace"
    segment_bytes: Annotated[int, Field(ge=16_777_216, le=4_294_967_296)] = 134_217_728
    segments_ready: Annotated[int, Field(ge=1, le=64)] = 8
    extra_sop_classes: tuple[Uid, ...] = ()


class TlsSettings(Section):
    port: Annotated[int, Field(ge=0, le=65535)] | None = None
    certificate: Path | None = None
    key: Path | None = None
    authorities: Path | None = None
    revocation_list: Path | None = None
    require_client_certificate: bool = True
    minimum_version: TlsVersion = "1.2"
    warn_days: Annotated[int, Field(ge=0)] = 30


class AssembleSettings(Section):
    quiet_after_release_s: NotNegative = 5
    quiet_otherwise_s: NotNegative = 60
    longest_wait_s: NotNegative = 600
    learn_pace: bool = True
    whole_studies: bool = True
    at_probable: Literal["route", "hold"] = "route"
    at_suspect: Literal["route", "hold"] = "route"

    def changed_by(self, other: AssembleSettings | None) -> AssembleSettings:
        """Return these settings with those that were written down in `other`."""
        if other is None:
            return self
        written = {key: getattr(other, key) for key in other.model_fields_set}
        return self.model_copy(update=written)


class HistorySettings(Section):
    keep_days: NotNegative = 30
    attributes: tuple[Keyword, ...] = ()
    clear_attributes: tuple[Keyword, ...] = ()


class InferSettings(Section):
    threads: Annotated[int, Field(ge=1)] = 2
    runtime: Runtime = "auto"
    runtimes: dict[str, Runtime] = {}
    server_url: ServerUrl | None = None
    devices: Devices = "auto"
    batch_max: Annotated[int, Field(ge=1, le=256)] = 16
    batch_wait_ms: Annotated[float, Field(ge=0, le=1000, allow_inf_nan=False)] = 20
    job_timeout_s: Positive = 1800
    crashes_max: Annotated[int, Field(ge=1)] = 3
    attempts_max: Annotated[int, Field(ge=1)] = 10
    retry_first_s: Positive = 5


class DeliverSettings(Section):
    timeout_s: Positive = 30
    retry_first_s: Positive = 5
    retry_longest_s: Positive = 3600
    jitter: Share = 0.2
    give_up_after_h: Positive = 72
    breaker_failures: Annotated[int, Field(ge=1)] = 3
    proof_wait_s: Annotated[float, Field(gt=0, le=80_000, allow_inf_nan=False)] = 600
    prove_within_h: Positive = 24
    resends_max: Annotated[int, Field(ge=0)] = 3


class PeerTls(Section):
    """How a peer is spoken to by TLS; a file that is not named is that of the section `tls`."""

    authorities: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    name: CertificateName | None = None


class ResultsSettings(Section):
    disclaimer: Annotated[str, Field(min_length=1, max_length=64)] = "NOT FOR DIAGNOSTIC USE"
    bytes_max: Annotated[int, Field(ge=1)] = 2_147_483_648


ResultKind = Literal["SEG", "PM", "PR", "SC", "KO", "PDF", "SR"]


class ResultsProfile(Section):
    objects: Annotated[tuple[ResultKind, ...], Field(min_length=1)]
    labelmap: Literal["auto"] | bool = False
    fractional: Literal["auto"] | bool = False
    frames_max: Annotated[int, Field(ge=1)] | None = None
    on_projections: bool = True
    instead: tuple[ResultKind, ...] = ("PR", "SC")


RESULTS_PROFILES = (
    *("default", "ohif", "slicer", "weasis", "orthanc", "no-seg", "sr-text-only"),
    "everything",
)
"""The profiles that come with the node."""


class Peer(Section):
    ae_title: AeTitle
    may_send: bool = False
    addresses: tuple[AddressRange, ...] = ()
    host: str | None = None
    port: Port | None = None
    retrieve: Literal["move", "get"] = "move"
    answers_find: bool = False
    rejection_note: bool = False
    stow_url: ServerUrl | None = None
    stow_token_file: Path | None = None
    stow_password_file: Path | None = None
    stow_authorities: Path | None = None
    proof: Literal["auto", "commitment", "read-back", "status"] = "auto"
    read_back: Literal["find", "content"] = "find"
    read_back_share: Share = 1
    hours: Annotated[tuple[Hours, ...], BeforeValidator(_one_or_several)] = ()
    instances_per_minute: Positive | None = None
    megabytes_per_minute: Positive | None = None
    associations: Annotated[int, Field(ge=1, le=32)] = 1
    tls: Annotated[PeerTls | None, BeforeValidator(_tls_of_a_peer)] = None
    certificate_sha256: Fingerprint | None = None
    certificate_name: CertificateName | None = None
    assemble: AssembleSettings | None = None
    results: str = "default"

    @property
    def has_address(self) -> bool:
        """Whether it can be called by DIMSE."""
        return self.host is not None and self.port is not None

    @property
    def can_receive(self) -> bool:
        return self.has_address or self.stow_url is not None

    @property
    def is_bound(self) -> bool:
        """Whether it may come in only over TLS, with a certificate that is named here."""
        return self.certificate_sha256 is not None or self.certificate_name is not None


class Config(Section):
    """Everything the node is told at start; relative paths are resolved against the file."""

    node: NodeSettings = NodeSettings()
    ledger: LedgerSettings = LedgerSettings()
    receive: ReceiveSettings = ReceiveSettings()
    tls: TlsSettings = TlsSettings()
    assemble: AssembleSettings = AssembleSettings()
    history: HistorySettings = HistorySettings()
    infer: InferSettings = InferSettings()
    deliver: DeliverSettings = DeliverSettings()
    results: ResultsSettings = ResultsSettings()
    results_profiles: dict[str, ResultsProfile] = {}
    peers: dict[str, Peer] = {}

    @property
    def ledger_url(self) -> str:
        return self.ledger.url or f"sqlite:///{self.node.data_dir / 'ledger.sqlite'}"

    @property
    def cache_dir(self) -> Path:
        """What can be made again: plans of networks, what was measured of runtimes."""
        return self.node.data_dir / "cache"

    @property
    def secret_file(self) -> Path:
        """The key of all hashes and replaced UIDs."""
        return self.node.data_dir / "secret.key"

    @property
    def assemble_by_ae_title(self) -> dict[str, AssembleSettings]:
        """How the studies of those who have settings of their own are judged."""
        return {
            peer.ae_title: self.assemble.changed_by(peer.assemble)
            for peer in self.peers.values()
            if peer.assemble is not None
        }

    @property
    def destinations(self) -> dict[str, Peer]:
        """The peers that results can be sent to: those with an address or a stow_url."""
        return {name: peer for name, peer in self.peers.items() if peer.can_receive}

    @property
    def called(self) -> dict[str, Peer]:
        """The peers that can be called by DIMSE: those with host and port."""
        return {name: peer for name, peer in self.peers.items() if peer.has_address}

    @property
    def not_called(self) -> frozenset[str]:
        """The destinations that have a stow_url only."""
        return frozenset(self.destinations.keys() - self.called.keys())

    @property
    def believed(self) -> frozenset[str]:
        """The destinations whose Success is all that is asked for."""
        return frozenset(n for n, peer in self.destinations.items() if peer.proof == "status")

    @property
    def not_admitted(self) -> frozenset[str]:
        """The destinations that could not send us what we ask of them by C-MOVE."""
        if self.receive.admit_unknown_calling_ae_titles:
            return frozenset()
        admitted = {peer.ae_title for peer in self.peers.values() if peer.may_send}
        return frozenset(
            name
            for name, peer in self.called.items()
            if peer.retrieve == "move" and peer.ae_title not in admitted
        )
