"""What the standard requires of an object, from the tables that highdicom carries (PS3.3).

highdicom generates them from the XML of the standard: the modules of each IOD, and the attributes
of each module with their types. Here they become one tree for each SOP Class.

What an object inherits (the Patient and Study modules) is the scanner's word, copied as it came: of
these only the first level is required. Modules that are optional, and conditional ones whose
condition no program can decide, are required of nobody.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from typing import Any

from highdicom._standard_utils import (
    get_iod_module_map,
    get_module_attribute_map,
    get_sop_class_iod_map,
)

_INHERITED = frozenset({"Patient", "Study"})
_BEGUN = {
    "frame-of-reference": "FrameOfReferenceUID",
    "common-instance-reference": "ReferencedSeriesSequence",
    "graphic-annotation": "GraphicAnnotationSequence",
    "graphic-layer": "GraphicLayerSequence",
    "modality-lut": "RescaleIntercept",
    "softcopy-voi-lut": "SoftcopyVOILUTSequence",
}
"""Conditional modules, and the attribute without which an object has not begun them."""

_BY_RULES = frozenset({"GraphicObjectSequence", "TextObjectSequence"})
"""What is below depends on a value beside it, which the tables do not tell."""

_CONTENT = "sr-document-content"
"""So does all of this module; content.py has its rules."""

_GROUPS = frozenset({"SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"})


@dataclass
class Required:
    """What an item of a data set must have."""

    types: dict[str, str] = field(default_factory=dict)
    """1 or 2, by keyword."""
    below: dict[str, Required] = field(default_factory=dict)
    """What the items of a sequence must have, where there is one."""

    def at(self, path: list[str]) -> Required:
        here = self
        for keyword in path:
            here = here.below.setdefault(keyword, Required())
        return here


@dataclass(frozen=True)
class Table:
    """What a SOP Class requires."""

    always: Required
    begun: tuple[tuple[str, Required], ...]
    """What is required where an object has an attribute."""
    inherited: frozenset[str]
    """Keywords that are copied from the source."""


@cache
def table_of(sop_class_uid: str) -> Table | None:
    """Return what a SOP Class requires; None if the tables do not know it."""
    name = get_sop_class_iod_map().get(sop_class_uid)
    if name is None:
        return None
    attributes = get_module_attribute_map()
    always, begun, inherited = Required(), [], set()
    for module in get_iod_module_map()[name]:
        key, is_inherited = module["key"], module["ie"] in _INHERITED
        if is_inherited:
            inherited |= {one["keyword"] for one in attributes[key] if not one["path"]}
        if key == _CONTENT:
            continue
        if module["usage"] == "M":
            _add(always, attributes[key], deep=not is_inherited)
        elif key in _BEGUN:
            required = Required()
            _add(required, attributes[key], deep=True)
            begun.append((_BEGUN[key], required))
    return Table(always, tuple(begun), frozenset(inherited))


def _add(required: Required, attributes: list[dict[str, Any]], *, deep: bool) -> None:
    for one in attributes:
        keyword, kind, path = one["keyword"], one["type"], one["path"]
        if kind not in ("1", "2") or (path and not deep) or _BY_RULES.intersection(path):
            continue
        if len(path) == 1 and path[0] in _GROUPS:
            continue  # a macro is here or there, or not at all: groups.py
        here = required.at(path)
        here.types[keyword] = min(kind, here.types.get(keyword, "2"))
