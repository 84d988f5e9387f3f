"""`dicom-node check`: every mistake at once, then a C-ECHO to each peer."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from dicom_node.cli.console import make_console
from dicom_node.config.settings import Config, validate_config
from dicom_node.config.yaml_lines import load_yaml
from dicom_node.deliver.store_scu import Address, echo
from dicom_node.errors import ConfigError, Mistake, PeerUnreachable
from dicom_node.infer.manifest import Manifest, list_engines
from dicom_node.route.rules import validate_rules


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
    mistakes = list(loaded.mistakes)
    if config is None:
        return mistakes, None
    engines: dict[str, Manifest] = {}
    try:
        engines = list_engines(config.node.engines_dir)
    except ConfigError as error:
        nowhere = Mistake(str(config_file), loaded.line_of(("node", "engines_dir")), "", str(error))
        mistakes += error.mistakes or [nowhere]
    try:
        rules_file = load_yaml(config.node.rules_file)
    except ConfigError as error:
        return [*mistakes, *error.mistakes], config
    validate_rules(rules_file, engines, config.destinations)
    return mistakes + rules_file.mistakes, config


def _echo(console: Console, name: str, config: Config) -> bool:
    peer = config.peers[name]
    address = Address(
        host=str(peer.host),
        port=int(peer.port or 0),
        called_ae_title=peer.ae_title,
        calling_ae_title=config.node.ae_title,
        timeout_s=config.deliver.timeout_s,
    )
    try:
        echo(address)
    except PeerUnreachable as error:
        console.print(f"peer {name}: {error.message}", style="red")
        console.print(f"-> {error.hint}")
        return False
    console.print(f"peer {name}: {peer.ae_title} answers the C-ECHO")
    return True
