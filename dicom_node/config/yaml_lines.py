"""YAML that remembers where each value stood, so that a mistake can name its file and line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from dicom_node.errors import ConfigError, Mistake

_INTEGER = "tag:yaml.org,2002:int"

KeyPath = tuple[str | int, ...]


@dataclass
class YamlFile:
    """The data of one file, the line of each key, and the mistakes found so far."""

    file: Path
    data: Any = None
    text: str = ""
    lines: dict[KeyPath, int] = field(default_factory=dict)
    mistakes: list[Mistake] = field(default_factory=list)

    def mistake(self, path: KeyPath, message: str) -> None:
        """Note a mistake at `path`; the line is that of the nearest key that exists."""
        self.mistakes.append(
            Mistake(str(self.file), self.line_of(path), ".".join(str(p) for p in path), message)
        )

    def line_of(self, path: KeyPath) -> int:
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 1)


def load_yaml(file: Path, text: str | None = None) -> YamlFile:
    """Return the data of a YAML file with its lines; a repeated key is a mistake.

    Parameters
    ----------
    text : str, optional
        What stands, or once stood, in the file; None reads it.

    Raises
    ------
    ConfigError
        If the file cannot be read or is no YAML.
    """
    loaded = YamlFile(file)
    try:
        loaded.text = file.read_text(encoding="utf-8") if text is None else text
        root = yaml.compose(loaded.text, Loader=yaml.SafeLoader)
        loaded.data = {} if root is None else _build(root, (), loaded)
    except OSError as error:
        raise ConfigError(
            mistakes=[Mistake(str(file), 0, "", f"cannot be read: {error.strerror}")],
            hint=f"create {file} or name another file",
        ) from error
    except UnicodeDecodeError as error:
        raise ConfigError(mistakes=[Mistake(str(file), 0, "", "is not UTF-8")]) from error
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 0
        raise ConfigError(
            mistakes=[Mistake(str(file), line, "", f"is no YAML: {error.problem}")]
        ) from error
    except (yaml.YAMLError, ValueError) as error:
        raise ConfigError(mistakes=[Mistake(str(file), 0, "", f"is no YAML: {error}")]) from error
    except RecursionError as error:
        raise ConfigError(
            mistakes=[Mistake(str(file), 0, "", "holds itself by an alias")]
        ) from error
    return loaded


def _build(node: yaml.Node, path: KeyPath, loaded: YamlFile) -> Any:
    loaded.lines[path] = node.start_mark.line + 1
    if isinstance(node, yaml.MappingNode):
        built: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = str(key_node.value)
            here = (*path, key)
            if key in built:
                loaded.lines[here] = key_node.start_mark.line + 1
                loaded.mistake(here, "stands twice")
            built[key] = _build(value_node, here, loaded)
            loaded.lines[here] = key_node.start_mark.line + 1
        return built
    if isinstance(node, yaml.SequenceNode):
        return [_build(item, (*path, i), loaded) for i, item in enumerate(node.value)]
    if ":" in node.value and node.tag == _INTEGER:
        return node.value  # a time: YAML 1.1 reads 22:00 as 1320, by sixties
    return yaml.SafeLoader("").construct_object(node)


def raise_mistakes(files: Sequence[YamlFile], hint: str = "") -> None:
    """Raise one ConfigError with the mistakes of all files, if there are any."""
    mistakes = [mistake for file in files for mistake in file.mistakes]
    if mistakes:
        raise ConfigError(mistakes=mistakes, hint=hint)
