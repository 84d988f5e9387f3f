"""The JSON Schema of engine.yaml, for editors: from the manifest's dataclasses and the guide.

    make schema

Types, defaults, enumerations and limits are those of the code; the words are those of the tables in
docs/engines.md. What no schema can say (files, codes that stand twice, one number against another)
is left to the node, which reads every manifest itself.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from dicom_node.finding import FindingKind
from dicom_node.infer.engine_folders import MANIFEST
from dicom_node.infer.fitting import NEEDED, OPTIONAL

Words = Mapping[tuple[str, str], str]
"""What the guide says, by block and key; the block of a manifest's own keys has no name."""

_TOP = ""
_CELL = re.compile(r"`([^`]+)`")


def manifest_schema(guide: str) -> dict[str, Any]:
    """Return the schema (draft 2020-12) of engine.yaml.

    Parameters
    ----------
    guide : str
        The text of docs/engines.md.
    """
    schema = MANIFEST.json_schema()
    schema["properties"].pop("folder")
    schema["required"].remove("folder")
    schema["allOf"] = [_of_kind(kind, schema) for kind in FindingKind]
    _describe(schema, _TOP, schema, words_of(guide))
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **schema,
        "title": "engine.yaml of dicom_node",
        "description": "What an engine says of itself; docs/engines.md explains every word.",
    }


def words_of(guide: str) -> Words:
    """Return what the tables of the guide say of each key."""
    words: dict[tuple[str, str], str] = {}
    block, in_table = _TOP, False
    last_name = _TOP
    for line in guide.splitlines():
        cells = [cell.strip() for cell in re.split(r"(?<!\\\\)\|", line)[1:-1]]
        if not cells:
            in_table = False
            last_name = _named(line) or last_name
            if line.startswith("## "):
                last_name = _TOP
        elif not in_table:
            in_table = True
            head = re.fullmatch(r"key of `(\w+)`", cells[0])
            block = head[1] if head else last_name
        elif len(cells) == 3 and cells[0].startswith("`"):
            for key in _CELL.findall(cells[0]):
                words[block, key] = cells[1]
    return words


def _named(line: str) -> str:
    """Return the block of which a paragraph speaks: "`classes` of a classification, a list:"."""
    match = re.match(r"`(\w+)` (?:is a list|of an? [\w -]+)", line)
    return match[1] if match else ""


def _of_kind(kind: FindingKind, schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return which blocks a kind of engine needs, and which it must not have."""
    every = {name for names in (*NEEDED.values(), *OPTIONAL.values()) for name in names}
    others = sorted(every - {*NEEDED[kind], *OPTIONAL[kind]})
    lists = [name for name in NEEDED[kind] if schema["properties"][name].get("type") == "array"]
    then: dict[str, Any] = {
        "required": list(NEEDED[kind]),
        "properties": {
            **dict.fromkeys(others, False),
            **{name: {"minItems": 1} for name in lists},
        },
    }
    then["oneOf"] = [{"required": ["image"]}, {"required": ["volume"]}]
    return {
        "if": {"properties": {"kind": {"const": kind.value}}, "required": ["kind"]},
        "then": then,
    }


def _describe(part: dict[str, Any], block: str, whole: dict[str, Any], words: Words) -> None:
    """Give each property its words; a block within a block may use those of the one around it."""
    part.pop("description", None)  # of a dataclass: it speaks to who reads the code
    part.pop("title", None)
    for key, described in part.get("properties", {}).items():
        described.pop("title", None)
        if said := words.get((block, key)):
            described["description"] = said
        for name in _blocks(described):
            inner = {(key, k): text for (b, k), text in words.items() if b == block}
            _describe(whole["$defs"][name], key, whole, {**inner, **words})


def _blocks(described: Any) -> Iterator[str]:
    if isinstance(described, dict):
        if "$ref" in described:
            yield described["$ref"].rsplit("/", 1)[1]
        for value in described.values():
            yield from _blocks(value)
    elif isinstance(described, list):
        for value in described:
            yield from _blocks(value)


def as_text(schema: Mapping[str, Any]) -> str:
    """Return the schema as it is published."""
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    sys.stdout.write(as_text(manifest_schema(Path(sys.argv[1]).read_text("utf-8"))))
