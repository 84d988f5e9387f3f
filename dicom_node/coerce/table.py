"""What becomes of each attribute: PS3.15 Table E.1-1 as a library keeps it, with our options.

The table's compound codes (X/Z/D ...) ask for the least that keeps an instance valid. What that is
depends on the IOD; we take the code that is valid in each of them: a dummy where one is allowed,
else an empty value. NOTES.md says why the table comes from a library and the rest does not.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum, auto
from functools import cache
from types import MappingProxyType

from dicomanonymizer.dicomfields_selector import dicom_anonymization_database_selector
from pydicom.datadict import dictionary_has_tag, dictionary_VR

from dicom_node.coerce import columns
from dicom_node.coerce.profile import Option

EDITION = "2026c"
"""The edition of PS3.15 that the library's table was made from."""


class Action(Enum):
    """What becomes of one attribute (PS3.15 Table E.1-1a)."""

    DUMMY = auto()
    """D: a value that says nothing; within a sequence its items go on by the table."""
    EMPTY = auto()
    """Z: no value, or a pseudonym where copies need one to stay together."""
    REMOVE = auto()
    """X"""
    KEEP = auto()
    """K: the value stays; the items of a sequence go on by the table."""
    CLEAN = auto()
    """C: what is known to be harmless stays."""
    SHIFT = auto()
    """C of a date or time: moved by the days of the patient."""
    MAP_UID = auto()
    """U: a UID of ours, the same for the same."""


_CODES = {
    "D_TAGS": Action.DUMMY,
    "Z_TAGS": Action.EMPTY,
    "X_TAGS": Action.REMOVE,
    "U_TAGS": Action.MAP_UID,
    "Z_D_TAGS": Action.DUMMY,
    "X_Z_TAGS": Action.EMPTY,
    "X_D_TAGS": Action.DUMMY,
    "X_Z_D_TAGS": Action.DUMMY,
    "X_Z_U_STAR_TAGS": Action.KEEP,  # its items' UIDs are replaced by the table's own rows
}
_OPTIONAL_SEQUENCES = ("X_D_TAGS", "X_Z_D_TAGS")
_DATE_VRS = ("DA", "DT", "TM")
_ANNOTATION_UID = 0x006A0003
_GRAPHIC_ANNOTATION_SEQUENCE = 0x00700001
_REFERENCED_PERFORMED_PROCEDURE_STEP_SEQUENCE = 0x00081111
_TEXT_VALUE = 0x0040A160

_BY_VR = {
    "PN": Action.EMPTY,
    "DA": Action.DUMMY,
    "DT": Action.DUMMY,
    "TM": Action.DUMMY,
    "UI": Action.MAP_UID,
    "UN": Action.REMOVE,
}
"""Of attributes that are not in the table."""


class Table:
    """The table's column for one set of options."""

    def __init__(self, options: frozenset[Option]) -> None:
        self._options = options
        self._actions = _with_options(options)
        self._by_vr = _BY_VR | _dates(options)
        if Option.RETAIN_UIDS in options:
            self._by_vr["UI"] = Action.KEEP

    def action(self, tag: int, vr: str) -> Action:
        """Return what becomes of an attribute that is neither private nor of a repeating group."""
        found = self._actions.get(tag)
        return found if found is not None else self._by_vr.get(vr, Action.KEEP)


@cache
def table_for(options: frozenset[Option]) -> Table:
    """Return the table's column for a set of options."""
    return Table(options)


@cache
def basic_actions() -> Mapping[int, Action]:
    """Return the action of each single attribute without any option.

    Repeating groups are not in it: overlays and curves are treated as a whole.
    """
    database = dicom_anonymization_database_selector(f"dicomfields_{EDITION}")
    actions = {}
    for category, action in _CODES.items():
        for tag in (
            group << 16 | element for group, element, *mask in database[category] if not mask
        ):
            vr = dictionary_VR(tag) if dictionary_has_tag(tag) else "UN"
            optional = vr == "SQ" and category in _OPTIONAL_SEQUENCES
            actions[tag] = Action.REMOVE if optional else action
    actions |= dict.fromkeys(columns.REMOVED_BEYOND_THE_TABLE, Action.REMOVE)
    actions[_ANNOTATION_UID] = Action.MAP_UID
    actions[_TEXT_VALUE] = (
        Action.DUMMY
    )  # of content items: not in the table, free text all the same
    actions[_REFERENCED_PERFORMED_PROCEDURE_STEP_SEQUENCE] = Action.EMPTY  # or removed, by IOD
    # D, but the text in it is the danger and the module around it is optional (PS3.3 C.10.5)
    actions[_GRAPHIC_ANNOTATION_SEQUENCE] = Action.REMOVE
    return MappingProxyType(actions)


def _with_options(options: frozenset[Option]) -> dict[int, Action]:
    basic = basic_actions()
    actions = dict(basic)
    if Option.CLEAN_DESCRIPTORS in options:
        actions |= dict.fromkeys(columns.CLEANED_DESCRIPTORS, Action.CLEAN)
    if Option.RETAIN_PATIENT_CHARACTERISTICS in options:
        actions |= dict.fromkeys(columns.CLEANED_PATIENT_CHARACTERISTICS, Action.CLEAN)
        actions |= dict.fromkeys(columns.KEPT_PATIENT_CHARACTERISTICS, Action.KEEP)
    if Option.CLEAN_STRUCTURED_CONTENT in options:
        actions |= dict.fromkeys(columns.CLEANED_STRUCTURED_CONTENT, Action.KEEP)
        actions[_TEXT_VALUE] = Action.CLEAN
    if Option.CLEAN_GRAPHICS in options:
        actions[_GRAPHIC_ANNOTATION_SEQUENCE] = Action.CLEAN
    if Option.RETAIN_DEVICE_IDENTITY in options:
        actions |= dict.fromkeys(columns.KEPT_DEVICE_IDENTITY, Action.KEEP)
    if Option.RETAIN_INSTITUTION_IDENTITY in options:
        actions |= dict.fromkeys(columns.KEPT_INSTITUTION_IDENTITY, Action.KEEP)
    if Option.RETAIN_UIDS in options:
        replaced = {tag for tag, action in basic.items() if action is Action.MAP_UID}
        kept = replaced - columns.UIDS_NOT_RETAINED | columns.SEQUENCES_RETAINED_WITH_UIDS
        actions |= dict.fromkeys(kept, Action.KEEP)
    dates = _dates(options)
    for tag in basic:
        vr = dictionary_VR(tag) if dictionary_has_tag(tag) else "UN"
        if vr in dates and tag not in columns.DATES_NOT_RETAINED:
            actions[tag] = dates[vr]
    if Option.RETAIN_LONGITUDINAL_FULL_DATES in options:
        actions |= dict.fromkeys(columns.NO_DATE_VR_BUT_RETAINED_IN_FULL, Action.KEEP)
    return actions


def _dates(options: frozenset[Option]) -> dict[str, Action]:
    """Return what becomes of dates and times, if an option says so."""
    if Option.RETAIN_LONGITUDINAL_FULL_DATES in options:
        return dict.fromkeys(_DATE_VRS, Action.KEEP)
    if Option.RETAIN_LONGITUDINAL_MODIFIED_DATES in options:
        return dict.fromkeys(_DATE_VRS, Action.SHIFT)
    return {}
