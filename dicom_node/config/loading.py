"""Reading the configuration: a file, its values, every mistake with its place."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from dicom_node.config.misfits import note_misfits
from dicom_node.config.settings import Config, Peer, Section
from dicom_node.config.yaml_lines import YamlFile, load_yaml, raise_mistakes
from dicom_node.errors import InvariantBroken

_PEM_FILES = ("certificate", "key", "authorities", "revocation_list")
_FILES_OF_STOW = ("stow_token_file", "stow_password_file", "stow_authorities")


def load_config(file: Path) -> Config:
    """Return the configuration of `file`.

    Raises
    ------
    ConfigError
        With every mistake, each with file, line and key.
    """
    loaded = load_yaml(file)
    config = validate_config(loaded)
    raise_mistakes([loaded])
    if config is None:
        raise InvariantBroken("no configuration and no mistake")
    return config


def validate_config(loaded: YamlFile) -> Config | None:
    """Return the configuration in `loaded`, or None with the mistakes noted there."""
    if not isinstance(loaded.data, dict):
        loaded.mistake((), "must be a mapping of sections")
        return None
    for section in [key for key, value in loaded.data.items() if value is None]:
        loaded.data[section] = {}  # a section whose keys are all commented out
    try:
        config = Config.model_validate(loaded.data)
    except ValidationError as error:
        for found in error.errors():
            loaded.mistake(tuple(found["loc"]), _in_words(found["type"], found["msg"]))
        return None
    note_misfits(loaded, config)
    return _with_whole_paths(config, loaded.file.parent)


def _with_whole_paths(config: Config, base: Path) -> Config:
    """Return a configuration whose files do not depend on where the node is started."""
    node = {
        key: (base / getattr(config.node, key)).resolve()
        for key in ("data_dir", "engines_dir", "rules_file")
    }
    return config.model_copy(
        update={
            "node": config.node.model_copy(update=node),
            "tls": config.tls.model_copy(update=_whole(config.tls, _PEM_FILES, base)),
            "peers": {name: _peer(peer, base) for name, peer in config.peers.items()},
        }
    )


def _peer(peer: Peer, base: Path) -> Peer:
    changed: dict[str, object] = {**_whole(peer, _FILES_OF_STOW, base)}
    if peer.tls is not None:
        changed["tls"] = peer.tls.model_copy(update=_whole(peer.tls, _PEM_FILES, base))
    return peer.model_copy(update=changed)


def _whole(section: Section, keys: tuple[str, ...], base: Path) -> dict[str, Path]:
    """Return whole paths; links stay links, a renewed certificate often arrives by moving one."""
    return {
        key: base.absolute() / path
        for key in keys
        if (path := getattr(section, key, None)) is not None
    }


def _in_words(kind: str, message: str) -> str:
    if kind == "extra_forbidden":
        return "no such key"
    return message.removeprefix("Value error, ").replace("Input should", "should")
