"""`priors:` of a rule: which prior studies its engines wait for, read and checked key by key."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from dicom_node.config.yaml_lines import KeyPath
from dicom_node.priors import PriorsWanted

_KEYS = (
    "from",
    "count",
    "modalities",
    "study_description",
    "body_parts",
    "within_days",
    "wait_s",
)
_COUNT_MAX = 10
_DAYS_MAX = 36_500
_WAIT_S_MAX = 86_400
_FIRST = PriorsWanted("")

Mistake = Callable[[KeyPath, str], None]


def read_priors(
    written: Any, mistake: Mistake, sources: Collection[str], not_admitted: Collection[str]
) -> PriorsWanted | None:
    """Return what `priors:` says; every mistake is told.

    Parameters
    ----------
    mistake : callable
        Told the path below `priors` and the message.
    sources : collection of str
        The peers that have an address.
    not_admitted : collection of str
        Those of them that would be asked by C-MOVE and may not send to us.
    """
    if not isinstance(written, dict):
        mistake((), "must be a mapping with `from`, the peer that is asked for prior studies")
        return None
    for key in written.keys() - set(_KEYS):
        mistake((key,), f"no such key; priors has {', '.join(_KEYS)}")
    reader = _Reader(written, mistake)
    return PriorsWanted(
        source=reader.source(sources, not_admitted),
        count_max=int(reader.number("count", _FIRST.count_max, 1, _COUNT_MAX, whole=True)),
        modalities=reader.texts("modalities"),
        study_description=reader.text("study_description"),
        body_parts=reader.texts("body_parts"),
        within_days=reader.days("within_days"),
        wait_s=reader.number("wait_s", _FIRST.wait_s, 1, _WAIT_S_MAX),
    )


class _Reader:
    def __init__(self, written: dict[Any, Any], mistake: Mistake) -> None:
        self._written = written
        self._mistake = mistake

    def source(self, sources: Collection[str], not_admitted: Collection[str]) -> str:
        name = self._written.get("from")
        if not isinstance(name, str) or name not in sources:
            have = ", ".join(sorted(sources)) or "none"
            where: KeyPath = ("from",) if "from" in self._written else ()
            self._mistake(where, f"needs `from`, a peer that has an address; there are: {have}")
            return ""
        if name in not_admitted:
            message = (
                f"{name} is asked by C-MOVE and could not send to us: give it `may_send: true`, "
                "or `retrieve: get`, in node.yaml"
            )
            self._mistake(("from",), message)
        return name

    def texts(self, key: str) -> tuple[str, ...]:
        if key not in self._written:
            return ()
        written = self._written[key]
        several = [written] if isinstance(written, str) else written
        if isinstance(several, list) and several and all(map(_is_text, several)):
            return tuple(text.strip() for text in several)
        self._mistake((key,), "must be a text or a list of texts")
        return ()

    def text(self, key: str) -> str:
        written = self._written.get(key, "")
        if key in self._written and not _is_text(written):
            self._mistake((key,), "must be a text, with * and ? for what may differ")
            return ""
        return str(written).strip()

    def days(self, key: str) -> int | None:
        if key not in self._written:
            return None
        return int(self.number(key, 0, 0, _DAYS_MAX, whole=True))

    def number(
        self, key: str, default: float, low: float, high: float, *, whole: bool = False
    ) -> float:
        written = self._written.get(key, default)
        is_number = isinstance(written, int if whole else int | float)
        if isinstance(written, bool) or not is_number or not low <= written <= high:
            what = "a whole number" if whole else "a number"
            self._mistake((key,), f"must be {what} from {low:g} to {high:g}")
            return default
        return float(written)


def _is_text(written: object) -> bool:
    return isinstance(written, str) and bool(written.strip())
