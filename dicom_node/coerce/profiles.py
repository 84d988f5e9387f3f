"""Profiles as they are written in the rules file, and every mistake in them."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from enum import StrEnum
from pathlib import Path
from typing import TypeVar

from pydicom.config import RAISE
from pydicom.datadict import dictionary_has_tag, dictionary_VM, dictionary_VR, tag_for_keyword
from pydicom.valuerep import validate_value

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
_TEXT_VRS = frozenset(
    {"AE", "AS", "CS", "DA", "DT", "LO", "LT", "PN", "SH", "ST", "TM", "UC", "UT"}
)
_INTEGER_VRS = frozenset({"SL", "SS", "UL", "US", "SV", "UV"})
_NUMBER_VRS = frozenset({"DS", "FD", "FL"})
_HASHED_VRS = frozenset({"AE", "CS", "LO", "LT", "PN", "SH", "ST", "UC", "UT"})
_DISPLAY = frozenset(
    {
        "BurnedInAnnotation",
        "QualityControlImage",
        "RecognizableVisualFeatures",
        "WindowCenter",
        "WindowCenterWidthExplanation",
        "WindowWidth",
    }
)
"""What may be changed of group 0028; the rest of it says how pixels are read."""
_OURS = frozenset(
    {
        "DeidentificationMethod",
        "LongitudinalTemporalInformationModified",
        "PatientIdentityRemoved",
        "SpecificCharacterSet",
    }
)

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
        what = self._mapping(written, path, {"deidentify", "coerce"})
        if written == {}:
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
        return Profile(name, deidentification, tuple(operations))

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
            if name in _NOT_OFFERED:
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
            if self._may_change(keyword, (*path, keyword))
        ]

    def _copy(self, written: object, path: KeyPath) -> list[Operation]:
        what = self._complete(written, path, {"from", "to"})
        if not what or not self._may_change(what["to"], (*path, "to")):
            return []
        source, target = what["from"], str(what["to"])
        if not self._is_text(source, (*path, "from")):
            return []
        if not self._is_text(target, (*path, "to")):
            return []
        return [Copy(str(source), target)]

    def _remove(self, written: object, path: KeyPath) -> list[Operation]:
        return [Remove(k) for k in self._keywords(written, path, self._may_remove)]

    def _hash(self, written: object, path: KeyPath) -> list[Operation]:
        operations: list[Operation] = []
        for i, keyword in enumerate(self._keywords(written, path, self._may_change)):
            if dictionary_VR(keyword) in _HASHED_VRS:
                operations.append(Hash(keyword))
            else:
                vr = dictionary_VR(keyword)
                self._mistake(
                    (*path, i), f"{keyword} cannot be hashed: a hash is no value of VR {vr}"
                )
        return operations

    def _map(self, written: object, path: KeyPath) -> list[Operation]:
        what = self._complete(written, path, {"attribute", "values"}, {"otherwise"})
        if not what or not self._may_change(what["attribute"], (*path, "attribute")):
            return []
        keyword = str(what["attribute"])
        otherwise = what.get("otherwise", "keep")
        if otherwise not in ("keep", "remove"):
            self._mistake((*path, "otherwise"), "must be keep or remove")
        values = what["values"]
        if not self._is_text(keyword, (*path, "attribute")):
            return []
        if not isinstance(values, dict) or not values:
            self._mistake((*path, "values"), "must map values to values")
            return []
        for before, after in values.items():
            here = (*path, "values", before)
            if isinstance(after, list):
                self._mistake(here, "must be one value")
            else:
                self._value(keyword, after, here)
        texts = {str(before): str(after) for before, after in values.items()}
        return [Map(keyword, texts, otherwise == "keep")]

    def _replace(self, written: object, path: KeyPath) -> list[Operation]:
        what = self._complete(written, path, {"attribute", "pattern", "with"})
        if not what or not self._may_change(what["attribute"], (*path, "attribute")):
            return []
        keyword, pattern, replacement = (str(what[k]) for k in ("attribute", "pattern", "with"))
        if not self._is_text(keyword, (*path, "attribute")):
            return []
        try:
            re.sub(pattern, replacement, "")
        except (re.error, IndexError) as error:
            self._mistake((*path, "pattern"), f"is no regular expression for its `with`: {error}")
            return []
        return [Replace(keyword, pattern, replacement)]

    # ------------------------------------------------------------ what may be changed, and to what

    def _may_remove(self, keyword: object, path: KeyPath) -> bool:
        return self._may_change(keyword, path, sequences=True)

    def _may_change(self, keyword: object, path: KeyPath, *, sequences: bool = False) -> bool:
        """Return whether an attribute may be changed by an operation; note why not."""
        tag = tag_for_keyword(keyword) if isinstance(keyword, str) else None
        if tag is None or not dictionary_has_tag(tag):
            self._mistake(path, f"{keyword} is no keyword of the data dictionary")
            return False
        vr, group = dictionary_VR(tag), tag >> 16
        why = ""
        if vr == "UI":
            why = "UIDs must stay consistent; de-identification replaces them"
        elif group in (0x0000, 0x0002, 0x0004) or group == 0x7FE0:
            why = "it belongs to the message, the file or the pixels"
        elif group == 0x0028 and keyword not in _DISPLAY | _OURS:
            why = "it says how the pixels are read"
        elif keyword in _OURS:
            why = "the node sets it itself"
        elif not (
            vr in _TEXT_VRS | _INTEGER_VRS | _NUMBER_VRS | {"IS", "UR"}
            or (sequences and vr == "SQ")
        ):
            why = f"values of VR {vr} cannot be written here"
        if why:
            self._mistake(path, f"{keyword} cannot be changed: {why}")
        return not why

    def _is_text(self, keyword: object, path: KeyPath) -> bool:
        tag = tag_for_keyword(keyword) if isinstance(keyword, str) else None
        if tag is None:
            self._mistake(path, f"{keyword} is no keyword of the data dictionary")
            return False
        if dictionary_VR(tag) in _TEXT_VRS | {"IS", "DS", "UR"}:
            return True
        self._mistake(path, f"{keyword} is no text")
        return False

    def _value(self, keyword: str, written: object, path: KeyPath) -> object:
        """Return a value as the data set takes it; note it if its VR or VM does not."""
        vr, vm = dictionary_VR(keyword), dictionary_VM(keyword)
        values = written if isinstance(written, list) else [written]
        if not _fits(vm, len(values)):
            self._mistake(path, f"{keyword} has {vm} values, not {len(values)}")
        for value in values:
            if vr in _TEXT_VRS | {"UR"} and not isinstance(value, str):
                self._mistake(path, f"{keyword} is text (VR {vr}): put {value} in quotes")
            elif vr in _INTEGER_VRS and (not isinstance(value, int) or isinstance(value, bool)):
                self._mistake(path, f"{keyword} is a whole number (VR {vr})")
            elif vr in ("FD", "FL") and (
                not isinstance(value, int | float) or isinstance(value, bool)
            ):
                self._mistake(path, f"{keyword} is a number (VR {vr})")
            else:
                self._validate(keyword, vr, value, path)
        read = [str(value) if vr in ("IS", "DS") else value for value in values]
        return read if isinstance(written, list) else read[0]

    def _validate(self, keyword: str, vr: str, value: object, path: KeyPath) -> None:
        try:
            if isinstance(value, str) and "\\" in value and vr not in ("LT", "ST", "UT", "UR"):
                raise ValueError("a backslash separates values; write a list")
            validate_value(vr, str(value) if vr in ("IS", "DS") else value, RAISE)
        except ValueError as error:
            self._mistake(path, f"is no value of {keyword} (VR {vr}): {error}")

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
        self, written: object, path: KeyPath, may: Callable[[object, KeyPath], bool]
    ) -> list[str]:
        if not isinstance(written, list) or not written:
            self._mistake(path, "must be a list of keywords")
            return []
        return [str(k) for i, k in enumerate(written) if may(k, (*path, i))]

    def _member(self, kind: type[_Member], written: object, path: KeyPath) -> _Member | None:
        try:
            return kind(written)  # type: ignore[arg-type]
        except ValueError:
            self._mistake(path, f"must be one of {', '.join(kind)}")
            return None


def _fits(vm: str, count: int) -> bool:
    """Return whether so many values are allowed by a VM such as 1, 1-3, 2-n or 2-2n."""
    least, _, most = vm.partition("-")
    if not most:
        return count == int(least)
    if most.endswith("n"):
        return count >= int(least) and count % int(most.removesuffix("n") or 1) == 0
    return int(least) <= count <= int(most)
