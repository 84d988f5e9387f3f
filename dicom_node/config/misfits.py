"""What no single key of the configuration shows: keys that mean nothing, or not together."""

from __future__ import annotations

from urllib.parse import urlsplit

from dicom_node.config.settings import RESULTS_PROFILES, Config
from dicom_node.config.yaml_lines import YamlFile

_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
_OF_DESTINATIONS = frozenset(
    {"proof", "read_back", "read_back_share", "hours", "rejection_note"}
    | {"instances_per_minute", "megabytes_per_minute"}
)


def note_misfits(loaded: YamlFile, config: Config) -> None:
    """Note every mistake in a configuration of which every key is right by itself."""
    for check in (_peers, _results, _tls, _stow, _tls_of_peers, _runtimes):
        check(loaded, config)


def _peers(loaded: YamlFile, config: Config) -> None:
    for name, peer in config.peers.items():
        if (peer.host is None) != (peer.port is None):
            loaded.mistake(("peers", name), "needs both host and port, or neither")
        if peer.answers_find and not peer.has_address:
            loaded.mistake(("peers", name, "answers_find"), "needs host and port to ask it at")
        for key in sorted(_OF_DESTINATIONS & peer.model_fields_set if not peer.can_receive else ()):
            loaded.mistake(
                ("peers", name, key), "means nothing without host and port, or a stow_url"
            )
        if not peer.may_send and not peer.can_receive:
            loaded.mistake(("peers", name), "neither may send nor has an address to send to")
    if not config.receive.admit_unknown_calling_ae_titles and not any(
        peer.may_send for peer in config.peers.values()
    ):
        loaded.mistake(
            ("peers",),
            "no peer has `may_send: true`, so nobody could send; add one, or set "
            "receive.admit_unknown_calling_ae_titles",
        )


def _tls(loaded: YamlFile, config: Config) -> None:
    """Note what does not fit together in `tls`; what is in its files, `dicom-node check` reads."""
    tls = config.tls
    if tls.port is None:
        for name, peer in config.peers.items():
            if peer.is_bound:
                loaded.mistake(
                    ("peers", name),
                    "is bound to a certificate and could never come in: tls.port is not set",
                )
        return
    if tls.port == config.receive.port and tls.port != 0:
        loaded.mistake(("tls", "port"), "must differ from receive.port")
    for key in ("certificate", "key"):
        if getattr(tls, key) is None:
            loaded.mistake(
                ("tls", key), "is missing; tls.port needs the node's certificate and key"
            )
    if tls.authorities is not None:
        return
    if tls.require_client_certificate:
        loaded.mistake(
            ("tls", "authorities"),
            "is missing; name the PEM file of the authorities that issue the peers' certificates, "
            "or set tls.require_client_certificate: false",
        )
        return
    if tls.revocation_list is not None:
        loaded.mistake(("tls", "revocation_list"), "means nothing without tls.authorities")
    for name, peer in config.peers.items():
        if peer.is_bound:
            loaded.mistake(
                ("peers", name),
                "is bound to a certificate and could never come in: tls.authorities is missing, so "
                "no peer is asked for one",
            )


def _results(loaded: YamlFile, config: Config) -> None:
    known = (*RESULTS_PROFILES, *config.results_profiles)
    for name in config.results_profiles:
        if name in RESULTS_PROFILES:
            loaded.mistake(("results_profiles", name), "is a profile of the node; choose a name")
    for name, peer in config.peers.items():
        if peer.results not in known:
            loaded.mistake(
                ("peers", name, "results"), f"no such profile; known are {', '.join(known)}"
            )


def _tls_of_peers(loaded: YamlFile, config: Config) -> None:
    for name, peer in config.peers.items():
        if peer.tls is None:
            continue
        place = ("peers", name, "tls")
        if not peer.has_address:
            loaded.mistake(place, "needs host and port to speak TLS to")
        if peer.tls.authorities is None and config.tls.authorities is None:
            loaded.mistake(
                place,
                "needs the PEM file of the authority that issued the peer's certificate: "
                f"peers.{name}.tls.authorities or tls.authorities",
            )
        if (peer.tls.certificate is None) != (peer.tls.key is None):
            loaded.mistake(place, "needs both certificate and key, or neither")
        elif peer.tls.certificate is None and (config.tls.certificate is None) != (
            config.tls.key is None
        ):
            loaded.mistake(place, "needs both tls.certificate and tls.key, or neither")


def _stow(loaded: YamlFile, config: Config) -> None:
    """Note what does not fit together in how peers are sent to by STOW-RS."""
    for name, peer in config.peers.items():
        secrets = [
            key
            for key in ("stow_token_file", "stow_password_file")
            if getattr(peer, key) is not None
        ]
        if peer.stow_url is None:
            for key in (*secrets, *(["stow_authorities"] if peer.stow_authorities else [])):
                loaded.mistake(("peers", name, key), "means nothing without stow_url")
            continue
        if len(secrets) > 1:
            loaded.mistake(("peers", name, secrets[1]), "a token or a password, not both")
        parts = urlsplit(peer.stow_url)
        if parts.username or parts.query or parts.fragment:
            loaded.mistake(
                ("peers", name, "stow_url"), "must be the root of the services, and name no user"
            )
        if secrets and parts.scheme == "http" and parts.hostname not in _LOOPBACK:
            loaded.mistake(
                ("peers", name, secrets[0]), "would be sent in clear text; stow_url must be https"
            )


def _runtimes(loaded: YamlFile, config: Config) -> None:
    infer = config.infer
    named: dict[tuple[str, ...], str] = {("infer", "runtime"): infer.runtime}
    named |= {("infer", "runtimes", engine): name for engine, name in infer.runtimes.items()}
    for path, name in named.items():
        if name == "kserve" and infer.server_url is None:
            loaded.mistake(path, "needs infer.server_url, the server to ask")
