"""What is wrong with a manifest, in words: where it stands, and what would be right."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from typing import Any, get_args, get_type_hints

from pydantic_core import ErrorDetails

from dicom_node.config.yaml_lines import KeyPath

_ALTERNATIVES = frozenset({"float", "Percentile"})
"""What pydantic adds to a path where a value may be of two kinds."""

_OWN_WORDS: Mapping[str, str] = {
    "name": "must be small letters, digits and _, at most 32, a letter first: my_engine",
    "version": "must be three whole numbers: 1.0.0",
    "sha256": "must be 64 hexadecimal digits, as sha256sum prints them",
}
"""Of keys at their place: what no general word says."""

_WORDS: Mapping[str, str] = {
    "string_type": "must be text",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "finite_number": "must be a number",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "tuple_type": "must be a list: [...]",
    "frozen_set_type": "must be a list: [...]",
    "greater_than": "must be greater than {gt:g}",
    "greater_than_equal": "must be at least {ge:g}",
    "less_than": "must be less than {lt:g}",
    "less_than_equal": "must be at most {le:g}",
    "string_too_short": "must have at least {min_length} characters",
    "string_too_long": "must have at most {max_length} characters",
    "too_short": "must have at least {min_length} values, has {actual_length}",
    "too_long": "must have at most {max_length} values",
}


def in_words(error: ErrorDetails, top: type[Any]) -> tuple[KeyPath, str]:
    """Return the place of a mistake, and what is allowed there.

    Parameters
    ----------
    error : dict
        One of those that pydantic found.
    top : type
        The dataclass of the whole file.
    """
    path: KeyPath = tuple(part for part in error["loc"] if part not in _ALTERNATIVES)
    return path, _message(error, path, top)


def _message(error: ErrorDetails, path: KeyPath, top: type[Any]) -> str:
    kind, context = error["type"], error.get("ctx", {})
    if kind == "value_error":
        return str(context["error"])
    if kind == "unexpected_keyword_argument":
        return f"no such key; {_instead(str(path[-1]), _keys(block_at(path[:-1], top)))}"
    if kind == "dataclass_type":
        return f"must be a mapping with the keys {', '.join(_keys(block_at(path, top)))}"
    if kind in ("literal_error", "enum"):
        allowed = re.findall(r"'([^']*)'|([\w.]+)", context["expected"].replace(" or ", " "))
        return _one_of(error["input"], [text or number for text, number in allowed])
    if kind == "missing":
        place = path[-1]
        short = f": the list is too short, it has {place}" if isinstance(place, int) else ""
        return f"is missing{short}"
    if path and path[-1] in _OWN_WORDS and (len(path) == 1 or kind == "string_pattern_mismatch"):
        return _OWN_WORDS[str(path[-1])]
    words = _WORDS.get(kind)
    return words.format(**context) if words else error["msg"].removeprefix("Input ")


def block_at(path: KeyPath, top: type[Any]) -> type[Any] | None:
    """Return the dataclass of the block at a path; None if no block can stand there."""
    here = top
    for key in (part for part in path if isinstance(part, str)):
        if not dataclasses.is_dataclass(here):
            return None
        blocks = list(_blocks(get_type_hints(here).get(key)))
        if not blocks:
            return None
        here = blocks[0]
    return here


def _blocks(hint: Any) -> Iterator[type[Any]]:
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        yield hint
    for part in get_args(hint):
        yield from _blocks(part)


def _keys(block: type[Any] | None) -> list[str]:
    fields = dataclasses.fields(block) if block is not None else ()
    return [field.name for field in fields if field.name != "folder"]


def _instead(written: str, allowed: list[str]) -> str:
    near = get_close_matches(written, allowed, n=1)
    return f"did you mean {near[0]}?" if near else f"there are {', '.join(allowed)}"


def _one_of(written: object, allowed: list[str]) -> str:
    message = f"must be one of {', '.join(allowed)}"
    near = get_close_matches(str(written), allowed, n=1)
    return f"{message}; did you mean {near[0]}?" if near else message
