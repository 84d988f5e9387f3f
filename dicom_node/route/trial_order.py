"""`shadow:` and `canary:` of an engine in a rule: what is tried beside it, read key by key."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from typing import Any

from dicom_node.config.yaml_lines import KeyPath
from dicom_node.trials import StopRule, TrialMode, TrialWanted

TRIAL_KEYS = tuple(mode.value for mode in TrialMode)
_KEYS = ("engine", "share", "parameters", "stop")
_STOP_KEYS = (
    *("dice_below", "volume_above", "kappa_below", "flips_above", "slower_than"),
    *("failures", "after_studies"),
)
_PERCENT = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*%")
_TIMES = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*x")
_COUNT_MAX = 100_000

Mistake = Callable[[KeyPath, str], None]
Parameters = Callable[[KeyPath, str, Any], Mapping[str, float]]


def read_trial(
    written: Mapping[Any, Any],
    mistake: Mistake,
    candidates: Collection[str],
    parameters: Parameters,
) -> TrialWanted | None:
    """Return what is said of a trial in the mapping below an engine; every mistake is told.

    Parameters
    ----------
    mistake : callable
        Told the path below the engine and the message.
    candidates : collection of str
        The engines that may be tried beside it.
    parameters : callable
        Reads the parameters of an engine: path, engine, what is written.
    """
    modes = [mode for mode in TrialMode if mode.value in written]
    if not modes:
        return None
    if len(modes) > 1:
        mistake((modes[1].value,), "an engine has a shadow or a canary, not both")
    [mode, *_] = modes
    said = written[mode.value]
    if isinstance(said, str):
        said = {"engine": said}
    where: KeyPath = (mode.value,)
    if not isinstance(said, dict):
        mistake(where, "must be an engine, or a mapping with `engine`")
        return None
    for key in said.keys() - set(_KEYS):
        mistake((*where, key), f"no such key; {mode} has {', '.join(_KEYS)}")
    engine = said.get("engine")
    if not isinstance(engine, str) or engine not in candidates:
        have = ", ".join(sorted(candidates)) or "none"
        here = (*where, "engine") if "engine" in said and said is written[mode.value] else where
        mistake(here, f"needs another engine of the same kind; there are: {have}")
        return None
    if mode is TrialMode.CANARY and "share" not in said:
        mistake(where, "needs `share`, of how many studies it is sent: 10%")
    reader = _Reader(said, where, mistake)
    return TrialWanted(
        engine=engine,
        mode=mode,
        parameters=parameters((*where, "parameters"), engine, said.get("parameters", {})),
        share=reader.share("share", 1.0) or 0.0,
        stop=_stop(said, where, mistake),
    )


def _stop(said: Mapping[Any, Any], where: KeyPath, mistake: Mistake) -> StopRule:
    written = said.get("stop", {})
    where = (*where, "stop")
    if not isinstance(written, dict):
        mistake(where, f"must be a mapping with some of {', '.join(_STOP_KEYS)}")
        return StopRule()
    for key in written.keys() - set(_STOP_KEYS):
        mistake((*where, key), f"no such key; stop has {', '.join(_STOP_KEYS)}")
    reader = _Reader(written, where, mistake)
    usual = StopRule()
    return StopRule(
        dice_below=reader.number("dice_below", 0, 1),
        volume_above=reader.share("volume_above", None),
        kappa_below=reader.number("kappa_below", -1, 1),
        flips_above=reader.share("flips_above", None),
        slower_than=reader.times("slower_than"),
        failures=reader.count("failures", usual.failures),
        after_studies=reader.count("after_studies", usual.after_studies),
    )


class _Reader:
    def __init__(self, written: Mapping[Any, Any], where: KeyPath, mistake: Mistake) -> None:
        self._written = written
        self._where = where
        self._mistake = mistake

    def _wrong(self, key: str, message: str) -> None:
        self._mistake((*self._where, key), message)

    def share(self, key: str, default: float | None) -> float | None:
        """Return a share: 10%, or 0.1."""
        if key not in self._written:
            return default
        written = self._written[key]
        match = _PERCENT.fullmatch(written.strip()) if isinstance(written, str) else None
        share = float(match[1]) / 100 if match else written
        if not _is_number(share) or not 0 < share <= 1:
            self._wrong(key, "must be a share of more than nothing: 10%, or 0.1")
            return default
        return float(share)

    def times(self, key: str) -> float | None:
        """Return a factor: 2x, or 2."""
        if key not in self._written:
            return None
        written = self._written[key]
        match = _TIMES.fullmatch(written.strip()) if isinstance(written, str) else None
        times = float(match[1]) if match else written
        if not _is_number(times) or not 0 < times <= 1000:
            self._wrong(key, "must be so many times: 2x")
            return None
        return float(times)

    def number(self, key: str, low: float, high: float) -> float | None:
        if key not in self._written:
            return None
        written = self._written[key]
        if not _is_number(written) or not low <= written <= high:
            self._wrong(key, f"must be a number from {low:g} to {high:g}")
            return None
        return float(written)

    def count(self, key: str, default: int) -> int:
        written = self._written.get(key, default)
        if type(written) is not int or not 1 <= written <= _COUNT_MAX:
            self._wrong(key, f"must be a whole number from 1 to {_COUNT_MAX}")
            return default
        return written


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
