"""Conditions and what joins them; asked of attributes, each says yes, no, or why neither.

    YES      it holds
    NO       it does not
    UNKNOWN  it asks what an engine found that has not come to its end
    ERROR    it cannot be judged: a person has to look at the study

`all` is NO as soon as one part is, whatever the others say, and `any` is YES; an ERROR counts
before an UNKNOWN. `not` turns YES and NO round and leaves the rest. So an answer never hangs on
what does not matter to it, and an ERROR is never taken for a NO.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol

from dicom_node.conditions.criteria import Criterion, WrongType, read_criterion
from dicom_node.conditions.keywords import identifies, is_finding, kind_of
from dicom_node.model import Attributes

_ABOUT_PRESENCE = frozenset({"absent", "present"})
PENDING = "pending"
"""The value of a finding's keyword while its engine has not come to its end."""


class Answer(Enum):
    YES = "yes"
    NO = "no"
    UNKNOWN = "unknown"
    ERROR = "error"


class Missing(Enum):
    """What a condition says where its attribute is missing or empty."""

    FAILS = "fails"
    HOLDS = "holds"
    PARKS = "parks"


class Outcome(Protocol):
    """What a condition said, and why; the words are made when they are asked for."""

    @property
    def answer(self) -> Answer: ...

    @property
    def reason(self) -> str: ...

    def leaves(self) -> Iterator[tuple[Answer, str]]:
        """Yield answer and reason of each condition in it, one by one."""


class Node(Protocol):
    """A condition, or several that are joined."""

    def check(self, attributes: Attributes) -> Outcome:
        """Return what the attributes make of it."""

    def keywords(self) -> Iterator[str]:
        """Yield the keywords that it asks for; some more than once."""


@dataclass(frozen=True)
class Condition:
    """One `Keyword: test` line; several tests are alternatives.

    Raises
    ------
    ValueError
        If there is no such keyword, or a test makes no sense for it.
    """

    keyword: str
    tests: tuple[str, ...]
    missing: Missing = Missing.FAILS
    _criteria: tuple[Criterion, ...] = field(init=False, repr=False, compare=False, default=())

    def __post_init__(self) -> None:
        kind = kind_of(self.keyword)
        if kind is None:
            raise ValueError(f"{self.keyword} is no keyword")
        criteria = []
        for test in self.tests:
            try:
                criteria.append(read_criterion(kind, test))
            except ValueError as error:
                said = str(error).replace("{keyword}", self.keyword)
                raise ValueError(f"{test} {said}") from None
        object.__setattr__(self, "_criteria", tuple(criteria))

    def check(self, attributes: Attributes) -> ConditionOutcome:
        """Return whether the attributes fulfil this condition."""
        values = tuple(v for v in attributes.get(self.keyword, ()) if v != "")
        return ConditionOutcome(self, values, self._answer(values))

    def keywords(self) -> Iterator[str]:
        yield self.keyword

    def _answer(self, values: tuple[str, ...]) -> Answer:
        if not values and self.missing is not Missing.FAILS:
            return Answer.YES if self.missing is Missing.HOLDS else Answer.ERROR
        if values == (PENDING,) and is_finding(self.keyword):
            return Answer.UNKNOWN
        wrong = False
        for criterion in self._criteria:
            try:
                if criterion(values):
                    return Answer.YES
            except WrongType:
                wrong = True
        return Answer.ERROR if wrong else Answer.NO


@dataclass(frozen=True)
class ConditionOutcome:
    """What one condition said of which values."""

    condition: Condition
    values: tuple[str, ...]
    answer: Answer

    @property
    def holds(self) -> bool:
        return self.answer is Answer.YES

    @property
    def reason(self) -> str:
        """Name the value, and what was wanted unless it holds; never who the patient is."""
        keyword = self.condition.keyword
        if self.answer is Answer.UNKNOWN:
            return f"{keyword} is not known yet"
        shown = "\\".join(self.values) if self.values else "absent"
        if self.values and identifies(keyword):
            shown = "(withheld)"
        if self.answer is Answer.YES:
            return f"{keyword} is {shown}"
        wanted = " or ".join(self.condition.tests)
        if identifies(keyword) and not _ABOUT_PRESENCE.issuperset(self.condition.tests):
            wanted = "what the rule asks for"
        if self.answer is Answer.NO:
            return f"{keyword} is {shown}, not {wanted}"
        if not self.values:
            return f"{keyword} is absent, and the rule cannot do without it"
        kind = kind_of(keyword)
        noun = kind.value if kind is not None else "value"
        return f"{keyword} is {shown}, which is no {noun}; wanted {wanted}"

    def leaves(self) -> Iterator[tuple[Answer, str]]:
        yield self.answer, self.reason


@dataclass(frozen=True)
class All:
    """Every part must hold; so it does without any."""

    parts: tuple[Node, ...]

    def check(self, attributes: Attributes) -> JoinedOutcome:
        parts = tuple(part.check(attributes) for part in self.parts)
        answer = _first(parts, (Answer.NO, Answer.ERROR, Answer.UNKNOWN), Answer.YES)
        return JoinedOutcome(parts, answer, _all_reason)

    def keywords(self) -> Iterator[str]:
        for part in self.parts:
            yield from part.keywords()


@dataclass(frozen=True)
class AnyOf:
    """One part must hold."""

    parts: tuple[Node, ...]

    def check(self, attributes: Attributes) -> JoinedOutcome:
        parts = tuple(part.check(attributes) for part in self.parts)
        answer = _first(parts, (Answer.YES, Answer.ERROR, Answer.UNKNOWN), Answer.NO)
        return JoinedOutcome(parts, answer, _any_reason)

    def keywords(self) -> Iterator[str]:
        for part in self.parts:
            yield from part.keywords()


@dataclass(frozen=True)
class Not:
    """The part must not hold.

    A condition on a missing attribute does not, so under `not` it is fulfilled, unless the
    condition says otherwise by `missing`.
    """

    part: Node

    def check(self, attributes: Attributes) -> JoinedOutcome:
        inner = self.part.check(attributes)
        turned = {Answer.YES: Answer.NO, Answer.NO: Answer.YES}
        return JoinedOutcome((inner,), turned.get(inner.answer, inner.answer), _not_reason)

    def keywords(self) -> Iterator[str]:
        yield from self.part.keywords()


@dataclass(frozen=True)
class JoinedOutcome:
    """What several conditions said together."""

    parts: tuple[Outcome, ...]
    answer: Answer
    _words: Callable[[JoinedOutcome], str] = field(repr=False, compare=False)

    @property
    def holds(self) -> bool:
        return self.answer is Answer.YES

    @property
    def reason(self) -> str:
        """Why, in the words of those parts that decided it."""
        return self._words(self)

    def leaves(self) -> Iterator[tuple[Answer, str]]:
        for part in self.parts:
            yield from part.leaves()


def _first(parts: Sequence[Outcome], order: Sequence[Answer], otherwise: Answer) -> Answer:
    answers = {part.answer for part in parts}
    return next((answer for answer in order if answer in answers), otherwise)


def _deciding(outcome: JoinedOutcome) -> list[str]:
    return [part.reason for part in outcome.parts if part.answer is outcome.answer]


def _all_reason(outcome: JoinedOutcome) -> str:
    return "; ".join(reason for reason in _deciding(outcome) if reason)


def _any_reason(outcome: JoinedOutcome) -> str:
    deciding = _deciding(outcome)
    if outcome.answer is Answer.YES:
        return deciding[0]
    return f"none of: {', '.join(deciding)}" if outcome.answer is Answer.NO else deciding[0]


def _not_reason(outcome: JoinedOutcome) -> str:
    [inner] = outcome.parts
    if outcome.answer in (Answer.UNKNOWN, Answer.ERROR):
        return inner.reason
    return f"not wanted: {inner.reason}" if outcome.answer is Answer.NO else inner.reason
