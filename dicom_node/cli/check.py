"""`dicom-node check`: every mistake at once, then a C-ECHO to each peer."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console

from dicom_node.cli.console import make_console
from dicom_node.config.loading import validate_config
from dicom_node.config.settings import Config, NodeSettings
from dicom_node.config.yaml_lines import YamlFile, load_yaml
from dicom_node.deliver.senders import echo
from dicom_node.errors import ConfigError, Mistake, PeerRefused, PeerUnreachable
from dicom_node.infer.engine_folders import find_engines
from dicom_node.infer.runtimes.choice import misfits, wishes_of
from dicom_node.ledger.ledger import Ledger
from dicom_node.plan import words_of
from dicom_node.receive.tls import expired
from dicom_node.route.rules_file import EngineWords, Names, validate_rules
from dicom_node.scu.peers import client_tls_of


def check(config_file: Path, with_echo: bool) -> bool:
    """Print what is wrong; return whether nothing is."""
    console = make_console(wraps=False)
    mistakes, config = find_mistakes(config_file)
    for mistake in mistakes:
        console.print(str(mistake), style="red")
    if mistakes:
        console.print(f"{len(mistakes)} mistake(s); nothing was changed")
    else:
        console.print("configuration, rules and engines: no mistake")
    if config is None or not with_echo:
        return not mistakes
    reached = [_echo(console, name, config) for name in config.destinations]
    return not mistakes and all(reached)


def find_mistakes(config_file: Path) -> tuple[list[Mistake], Config | None]:
    """Return every mistake in the configuration, its engines and its rules."""
    try:
        loaded = load_yaml(config_file)
    except ConfigError as error:
        return list(error.mistakes), None
    config = validate_config(loaded)
    if config is not None:
        _check_ledger(loaded, config)
        _check_tls(loaded, config)
        _check_tls_of_peers(loaded, config)
    places = _Places.of(loaded, config)
    mistakes: list[Mistake] = []
    engines: dict[str, EngineWords] = {}
    try:
        found = find_engines(places.engines_dir)
        mistakes = list(found.mistakes)
        # of a folder with mistakes only the name is known
        engines = dict.fromkeys(found.folders, EngineWords())
        engines |= {name: words_of(manifest) for name, manifest in found.manifests.items()}
        if config is not None:
            for path, message in misfits(wishes_of(config), engines):
                loaded.mistake(path, message)
    except ConfigError as error:
        loaded.mistake(("node", "engines_dir"), str(error))
    try:
        rules_file = load_yaml(places.rules_file)
        names = Names(engines, places.destinations)
        if config is not None:
            names = replace(names, not_admitted=config.not_admitted, not_called=config.not_called)
        validate_rules(rules_file, names)
        mistakes += rules_file.mistakes
    except ConfigError as error:
        mistakes += error.mistakes
    return loaded.mistakes + mistakes, config


@dataclass(frozen=True)
class _Places:
    """Where the other files lie; guessed from a configuration that has mistakes of its own."""

    engines_dir: Path
    rules_file: Path
    destinations: tuple[str, ...]

    @classmethod
    def of(cls, loaded: YamlFile, config: Config | None) -> _Places:
        if config is not None:
            node = config.node
            return cls(node.engines_dir, node.rules_file, tuple(config.destinations))
        data = loaded.data if isinstance(loaded.data, dict) else {}
        written, peers = data.get("node"), data.get("peers")
        node = NodeSettings()
        paths = {}
        for key in ("engines_dir", "rules_file"):
            value = written.get(key) if isinstance(written, dict) else None
            own = value if isinstance(value, str) else getattr(node, key)
            paths[key] = loaded.file.parent / own
        return cls(**paths, destinations=tuple(peers) if isinstance(peers, dict) else ())


def _check_ledger(loaded: YamlFile, config: Config) -> None:
    try:
        Ledger(config.ledger_url).close()
    except ConfigError as error:
        loaded.mistake(("ledger", "url"), error.in_words)


def _check_tls(loaded: YamlFile, config: Config) -> None:
    if config.tls.port is None:
        return
    try:
        for key, reason in expired(config.tls, time.time()):
            loaded.mistake(("tls", key), reason)
    except ConfigError as error:
        for mistake in error.mistakes:
            loaded.mistake(tuple(mistake.key.split(".")), f"{mistake.file} {mistake.message}")


def _check_tls_of_peers(loaded: YamlFile, config: Config) -> None:
    """Note what is wrong with the files by which peers are spoken to, and what has ended."""
    now = time.time()
    for name, peer in config.destinations.items():
        tls = client_tls_of(peer, config)
        if tls is None:
            continue
        place = ("peers", name, "tls")
        try:
            for validity in tls.load().validities:
                if validity.key == "certificate" and validity.ends_at <= now:
                    loaded.mistake(
                        place,
                        f"the certificate {validity.name} in {validity.file} "
                        f"({tls.key_name('certificate')}) has ended; put a new one into the file",
                    )
        except ConfigError as error:
            for mistake in error.mistakes:
                loaded.mistake(place, f"{mistake.key}: {mistake.file} {mistake.message}")


def _echo(console: Console, name: str, config: Config) -> bool:
    peer = config.peers[name]
    try:
        echo(peer, config)
    except (PeerRefused, PeerUnreachable) as error:
        console.print(f"peer {name}: {error.message}", style="red")
        console.print(f"-> {error.hint}")
        return False
    what = "C-ECHO" if peer.stow_url is None else "search"
    console.print(f"peer {name}: {peer.ae_title} answers the {what}")
    return True
