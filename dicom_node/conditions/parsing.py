"""Conditions as they are written in YAML: under `when:` in a rule, under `accepts:` in an engine.

    Modality: CT                     one of the attribute's values equals it; case does not matter
    Modality: [CR, DX]               equals one of these
    SliceThickness: "<= 5"           a number, date, time or age: <, <=, >, >=
    KVP: "80 .. 140"                 a range, both ends included; a time may go through midnight
    SeriesDescription: "/t1|mprage/" a regular expression, found anywhere; case does not matter
    ViewPosition: absent             missing or empty; `present` is the opposite
    SOPClassUID: CTImageStorage      a UID, or its keyword in PS3.6
    any: [{...}, {...}]              one of these sets of conditions holds
    all: [{...}, {...}]              each of them does
    not: {...}                       they do not hold
    SliceThickness: {is: "<= 5", missing: parks}

A missing attribute fulfils `absent` and nothing else; with `missing: holds` it fulfils the
condition, with `missing: parks` the study waits for a person.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from dicom_node.conditions.keywords import (
    FINDING_FACTS,
    OWN_KEYWORDS,
    FindingKeyword,
    is_bulk,
    kind_of,
)
from dicom_node.conditions.tree import All, AnyOf, Condition, Missing, Node, Not

Path = tuple[str | int, ...]
Mistakes = tuple[tuple[Path, str], ...]

_DEPTH_MAX = 20
_IN_ENGINES = ("instance_count", "calling_ae_title")


@dataclass
class _Reader:
    """Reads conditions; knows the keywords beside DICOM's that may be asked for here."""

    own: Sequence[str]
    mistakes: list[tuple[Path, str]] = field(default_factory=list)

    def mistake(self, path: Path, message: str) -> None:
        self.mistakes.append((path, message))

    def all_of(self, path: Path, written: object) -> All:
        """Return what a mapping says, without what is a mistake."""
        if not isinstance(written, Mapping):
            self.mistake(path, "must be a mapping of attribute keywords to tests")
            return All(())
        if len(path) > _DEPTH_MAX:
            self.mistake(path, "is nested too deeply")
            return All(())
        parts: list[Node] = []
        for key, value in written.items():
            here = (*path, str(key))
            if key in ("any", "all"):
                parts += self.joined(here, value, AnyOf if key == "any" else All)
            elif key == "not":
                parts.append(Not(self.all_of(here, value)))
                if value == {}:
                    self.mistake(here, "needs at least one condition, and could never hold")
            else:
                parts += self.condition(here, str(key), value)
        return All(tuple(parts))

    def joined(self, path: Path, written: object, join: type[All] | type[AnyOf]) -> Iterable[Node]:
        if not isinstance(written, list) or not written:
            self.mistake(path, "must be a list of mappings, each of keywords to tests")
            return
        yield join(tuple(self.all_of((*path, i), one) for i, one in enumerate(written)))

    def condition(self, path: Path, keyword: str, written: object) -> Iterable[Condition]:
        before = len(self.mistakes)
        missing = Missing.FAILS
        if isinstance(written, Mapping):
            written, missing = self.long_form(path, written)
        alternatives: Sequence[object] = written if isinstance(written, list) else [written]
        wrong = self.keyword_mistake(keyword)
        if wrong:
            self.mistake(path, wrong)
        elif not alternatives and len(self.mistakes) == before:
            self.mistake(path, f"{keyword} has an empty list of tests and could never hold")
        else:
            for one in alternatives:
                self.test(path, keyword, one)
        if len(self.mistakes) == before:
            yield Condition(keyword, tuple(map(_text, alternatives)), missing)

    def long_form(self, path: Path, written: Mapping[object, object]) -> tuple[object, Missing]:
        """Return the tests of `{is: TEST, missing: MEANING}` and what missing means."""
        for key in written.keys() - {"is", "missing"}:
            self.mistake((*path, str(key)), "no such key; a condition has `is` and `missing`")
        if "is" not in written:
            self.mistake(path, "needs `is`, with a test or a list of them")
        meaning = str(written.get("missing", Missing.FAILS.value))
        if meaning not in [one.value for one in Missing]:
            self.mistake((*path, "missing"), "must be fails, holds or parks")
            meaning = Missing.FAILS.value
        return written.get("is", []), Missing(meaning)

    def keyword_mistake(self, keyword: str) -> str:
        if keyword in self.own:
            return ""
        finding = FindingKeyword.of(keyword)
        if finding is not None and not keyword[0].isupper() and keyword not in OWN_KEYWORDS:
            if "engine.fact" not in self.own:
                return f"{keyword} asks for a finding, which is not known here"
            facts = ", ".join(FINDING_FACTS)
            known = finding.fact in FINDING_FACTS
            return "" if known else f"{keyword}: a finding has {facts}"
        if kind_of(keyword) is None or keyword in OWN_KEYWORDS:
            own = ", ".join(sorted(self.own))
            return f"{keyword} is no DICOM keyword and none of ours ({own})"
        if is_bulk(keyword):
            return f"{keyword} holds a sequence or bytes; a condition can only test values"
        return ""

    def test(self, path: Path, keyword: str, written: object) -> None:
        if isinstance(written, (Mapping, list)):
            self.mistake(path, f"{written} is no test; write a value, or a list of values")
            return
        try:
            Condition(keyword, (_text(written),))
        except ValueError as error:
            self.mistake(path, str(error))


def parse_conditions(written: object) -> tuple[tuple[Condition, ...], Mistakes]:
    """Return the conditions of a plain mapping, all of which must hold: an engine's `accepts:`.

    Returns
    -------
    conditions : tuple of Condition
        Those without a mistake.
    mistakes : tuple of (path, message)
        The path is empty where the mapping itself is the mistake.
    """
    reader = _Reader(_IN_ENGINES)
    found = reader.all_of((), written)
    conditions = [part for part in found.parts if isinstance(part, Condition)]
    if len(conditions) < len(found.parts):
        reader.mistake((), "an engine's conditions must all hold: any, all and not are for rules")
    return tuple(conditions), tuple(reader.mistakes)


def parse_rule_conditions(written: object) -> tuple[All, Mistakes]:
    """Return the conditions of a rule, and every mistake in them."""
    reader = _Reader((*OWN_KEYWORDS, "engine.fact"))
    return reader.all_of((), written), tuple(reader.mistakes)


def _text(written: object) -> str:
    if isinstance(written, bool):  # YAML reads a bare YES or NO as a truth value
        return "YES" if written else "NO"
    return "absent" if written is None else str(written).strip()
