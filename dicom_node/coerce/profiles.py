"""Profiles as they are written in the rules file, and every mistake in them."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from enum import StrEnum
from pathlib import Path
from typing import TypeVar

from dicom_node.coerce.attributes import (
    as_value,
    faults_of_one,
    faults_of_value,
    why_not_changed,
    why_not_hashed,
    why_not_removed,
    why_not_text,
)
from dicom_node.coerce.profile import (
    BurnedIn,
    Copy,
    Deidentification,
    Hash,
    Map,
    Operation,
    Option,
    Profile,
    Remove,
    Replace,
    Set,
)
from dicom_node.config.yaml_lines import KeyPath, YamlFile, load_yaml, raise_mistakes

_NOT_OFFERED = {
    "clean_pixel_data": "the node changes no pixels; see burned_in_annotation",
    "clean_recognizable_visual_features": "the node changes no pixels; remove faces before",
}
_Member = TypeVar("_Member", bound=StrEnum)


def load_profiles(file: Path) -> dict[str, Profile]:
    """Return the profiles of a rules file, by name; the rules in it are not looked at.

    Raises
    ------
    ConfigError
        With every mistake, each with file, line and key.
    """
    loaded = load_yaml(file)
    written = loaded.data.get("profiles") if isinstance(loaded.data, dict) else None
    profiles = {} if written is None else validate_profiles(loaded, written, ("profiles",))
    raise_mistakes([loaded])
    return profiles


def validate_profiles(loaded: YamlFile, written: object, path: KeyPath) -> dict[str, Profile]:
    """Return the profiles without a mistake, by name; the mistakes are noted in `loaded`.

    Parameters
    ----------
    written : object
        What stands under the key `profiles`.
    path : tuple
        Where that is: ("profiles",).
    """
    if not isinstance(written, dict):
        loaded.mistake(path, "must be a mapping of names to profiles")
        return {}
    profiles = {}
    for name, profile in written.items():
        before = len(loaded.mistakes)
        parsed = _Parser(loaded).profile(name, profile, (*path, name))
        if len(loaded.mistakes) == before:
            profiles[name] = parsed
    return profiles


class _Parser:
    """Reads one profile and notes what is wrong with it."""

    def __init__(self, loaded: YamlFile) -> None:
        self._mistake = loaded.mistake

    def profile(self, name: str, written: object, path: KeyPath) -> Profile:
        what = self._mapping(written, path, {"deidentify", "coerce", "results_to"})
        if isinstance(written, dict) and written.keys() <= {"results_to"}:
            self._mistake(path, "needs `deidentify` or `coerce`, or both")
        deidentification = None
        if "deidentify" in what:
            here = (*path, "deidentify")
            deidentification = self._deidentification(what["deidentify"], here)
        operations: list[Operation] = []
        steps = what.get("coerce", [])
        if not isinstance(steps, list):
            self._mistake((*path, "coerce"), "must be a list of operations")
            steps = []
        for i, step in enumerate(steps):
            operations += self._step(step, (*path, "coerce", i))
        return Profile(name, deidentification, tuple(operations), self._results_to(what, path))

    def _results_to(self, what: Mapping[str, object], path: KeyPath) -> tuple[str, ...]:
        """Return names of destinations; who knows the destinations checks them."""
        written = what.get("results_to", [])
        names = [written] if isinstance(written, str) else written
        if isinstance(names, list) and all(isinstance(name, str) for name in names):
            return tuple(names)
        self._mistake((*path, "results_to"), "must be a list of destinations")
        return ()

    def _deidentification(self, written: object, path: KeyPath) -> Deidentification:
        what = self._mapping(
            {} if written is None else written, path, {"options", "burned_in_annotation"}
        )
        options = set()
        names = what.get("options", [])
        if not isinstance(names, list):
            self._mistake((*path, "options"), "must be a list of options")
            names = []
        for i, name in enumerate(names):
            here = (*path, "options", i)
            if isinstance(name, str) and name in _NOT_OFFERED:
                self._mistake(here, f"{name} is not offered: {_NOT_OFFERED[name]}")
            elif (option := self._member(Option, name, here)) is not None:
                options.add(option)
        if {
            Option.RETAIN_LONGITUDINAL_FULL_DATES,
            Option.RETAIN_LONGITUDINAL_MODIFIED_DATES,
        } <= options:
            self._mistake((*path, "options"), "dates are either retained in full or modified")
        policy = BurnedIn.REFUSE
        if "burned_in_annotation" in what:
            here = (*path, "burned_in_annotation")
            policy = self._member(BurnedIn, what["burned_in_annotation"], here) or policy
        return Deidentification(frozenset(options), policy)

    # ------------------------------------------------------------ operations

    def _step(self, written: object, path: KeyPath) -> list[Operation]:
        readers: Mapping[str, Callable[[object, KeyPath], list[Operation]]] = {
            "set": self._set,
            "copy": self._copy,
            "remove": self._remove,
            "map": self._map,
            "replace": self._replace,
            "hash": self._hash,
        }
        if (
            not isinstance(written, dict)
            or len(written) != 1
            or not written.keys() <= readers.keys()
        ):
            self._mistake(path, f"must have one key of {', '.join(readers)}")
            return []
        [(name, arguments)] = written.items()
        return readers[name](arguments, (*path, name))

    def _set(self, written: object, path: KeyPath) -> list[Operation]:
        if not isinstance(written, dict) or not written:
            self._mistake(path, "must map keywords to values")
            return []
        return [
            Set(keyword, self._value(keyword, value, (*path, keyword)))
            for keyword, value in written.items()
            if not self._noted(why_not_changed(keyword), (*path, keyword))
        ]

    def _copy(self, written: object, path: KeyPath) -> list[Operation]:
        what = self._complete(written, path, {"from", "to"})
        if not what:
            return []
        source, target = what["from"], what["to"]
        wrong = [
            self._noted(why_not_text(source), (*path, "from")),
            self._noted(why_not_changed(target) or why_not_text(target), (*path, "to")),
        ]
        return [] if any(wrong) else [Copy(str(source), str(target))]

    def _remove(self, written: object, path: KeyPath) -> list[Operation]:
        return [Remove(k) for k in self._keywords(written, path, why_not_removed)]

    def _hash(self, written: object, path: KeyPath) -> list[Operation]:
        return [Hash(k) for k in self._keywords(written, path, why_not_hashed)]

    def _map(self, written: object, path: KeyPath) -> list[Operation]:
        what = self._complete(written, path, {"attribute", "values"}, {"otherwise"})
        keyword, values = self._target(what, path), what.get("values")
        otherwise = what.get("otherwise", "keep")
        if otherwise not in ("keep", "remove"):
            self._mistake((*path, "otherwise"), "must be keep or remove")
        if not keyword:
            return []
        if not isinstance(values, dict) or not values:
            self._mistake((*path, "values"), "must map values to values")
            return []
        for before, after in values.items():
            here = (*path, "values", before)
            if isinstance(after, list):
                self._mistake(here, "must be one value")
            else:
                for fault in faults_of_one(keyword, after):
                    self._mistake(here, fault)
        texts = {str(before): str(after) for before, after in values.items()}
        return [Map(keyword, texts, otherwise == "keep")]

    def _replace(self, written: object, path: KeyPath) -> list[Operation]:
        what = self._complete(written, path, {"attribute", "pattern", "with"})
        keyword = self._target(what, path)
        if not keyword:
            return []
        pattern, replacement = str(what["pattern"]), str(what["with"])
        try:
            re.sub(pattern, replacement, "")
        except (re.error, IndexError) as error:
            self._mistake((*path, "pattern"), f"is no regular expression for its `with`: {error}")
            return []
        return [Replace(keyword, pattern, replacement)]

    def _target(self, what: Mapping[str, object], path: KeyPath) -> str:
        """Return the text attribute that is to be changed; "" if there is none, which is noted."""
        if not what:
            return ""
        keyword = what["attribute"]
        why = why_not_changed(keyword) or why_not_text(keyword)
        return "" if self._noted(why, (*path, "attribute")) else str(keyword)

    def _noted(self, why: str, path: KeyPath) -> bool:
        """Return whether there is something wrong; note it."""
        if why:
            self._mistake(path, why)
        return bool(why)

    def _value(self, keyword: str, written: object, path: KeyPath) -> object:
        """Return a value as the data set takes it; note what is wrong with it."""
        for fault in faults_of_value(keyword, written):
            self._mistake(path, fault)
        return as_value(keyword, written)

    # ------------------------------------------------------------ YAML

    def _mapping(self, written: object, path: KeyPath, keys: set[str]) -> dict[str, object]:
        if not isinstance(written, dict):
            self._mistake(path, f"must be a mapping with {', '.join(sorted(keys))}")
            return {}
        for key in written.keys() - keys:
            self._mistake((*path, key), f"no such key; there are {', '.join(sorted(keys))}")
        return {key: written[key] for key in written.keys() & keys}

    def _complete(
        self, written: object, path: KeyPath, keys: set[str], optional: Collection[str] = ()
    ) -> dict[str, object]:
        what = self._mapping(written, path, keys.union(optional))
        missing = keys - what.keys()
        if missing:
            self._mistake(path, f"needs {', '.join(sorted(missing))}")
        return {} if missing else what

    def _keywords(
        self, written: object, path: KeyPath, why_not: Callable[[object], str]
    ) -> list[str]:
        if not isinstance(written, list) or not written:
            self._mistake(path, "must be a list of keywords")
            return []
        return [str(k) for i, k in enumerate(written) if not self._noted(why_not(k), (*path, i))]

    def _member(self, kind: type[_Member], written: object, path: KeyPath) -> _Member | None:
        try:
            return kind(str(written))
        except ValueError:
            self._mistake(path, f"must be one of {', '.join(kind)}")
            return None
