"""Which changes of the configuration a running node takes up, and which need a restart."""

from __future__ import annotations

from dicom_node.config.settings import Config
from dicom_node.errors import ConfigError, Mistake

_TAKEN_UP = frozenset({"assemble", "history"})
"""Sections that only the supervisor's turns go by; the rules file is read anew as well."""


def require_reloadable(running: Config, new: Config) -> None:
    """Refuse a configuration that differs where only a restart helps.

    Raises
    ------
    ConfigError
        With each key that cannot be changed while the node runs.
    """
    mistakes = [
        Mistake("", 0, f"{section}.{key}", "was changed; it is taken up by a restart only")
        for section in Config.model_fields
        if section not in _TAKEN_UP
        for key in _changed(getattr(running, section), getattr(new, section))
    ]
    if mistakes:
        raise ConfigError(
            mistakes=mistakes,
            hint="restart the node, or undo these changes and reload; the old rules go on",
        )


def _changed(running: object, new: object) -> list[str]:
    """Return the keys of a section whose values differ."""
    before, after = (one if isinstance(one, dict) else vars(one) for one in (running, new))
    return sorted(key for key in before.keys() | after.keys() if before.get(key) != after.get(key))
