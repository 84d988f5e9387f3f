"""Kept headers: what rules and completeness may ask of an instance, without its file.

The instances of a series mostly carry the same values. So the header of the first is kept with the
series, and of each instance only what differs: some 200 bytes instead of 2,000.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, delete, func, insert, select

from dicom_node.ledger import schema
from dicom_node.ledger.database import Database
from dicom_node.model import Attributes

_Written = Mapping[str, list[str] | None]


@dataclass(frozen=True)
class KeptHeader:
    """What is kept of one instance's header."""

    series_instance_uid: str
    sop_instance_uid: str
    digest: str
    """Of the bytes that it was read from."""
    attributes: Attributes
    keywords: frozenset[str]
    """Those that were looked for; one that is not among the attributes was not there."""
    unreadable: str = ""
    """Why it cannot be parsed; empty if it can."""


class Headers:
    """The part of the ledger that remembers headers."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def keep(
        self, study_instance_uid: str, headers: Sequence[KeptHeader], keywords: Collection[str]
    ) -> None:
        """Keep headers, in place of those of the same instances that were kept before."""
        if not headers:
            return
        table = schema.instance_headers
        here = table.c.study_instance_uid == study_instance_uid
        with self._database.writing() as connection:
            keyset = self._keyset(connection, keywords)
            bases = self._bases(connection, study_instance_uid, headers)
            for uids in _pieces([header.sop_instance_uid for header in headers], 500):
                connection.execute(delete(table).where(here, table.c.sop_instance_uid.in_(uids)))
            rows = [
                {
                    "study_instance_uid": study_instance_uid,
                    "series_instance_uid": header.series_instance_uid,
                    "sop_instance_uid": header.sop_instance_uid,
                    "digest": header.digest,
                    "keyset": keyset,
                    "attributes": _difference(bases[header.series_instance_uid], header.attributes),
                    "unreadable": header.unreadable,
                }
                for header in headers
            ]
            connection.execute(insert(table), rows)

    def of_study(self, study_instance_uid: str) -> dict[str, dict[str, KeptHeader]]:
        """Return what is kept of a study, by Series and by SOP Instance UID."""
        base, each, keysets = schema.series_headers, schema.instance_headers, schema.header_keysets
        kept: dict[str, dict[str, KeptHeader]] = {}
        with self._database.reading() as connection:
            bases = {
                row.series_instance_uid: _read(row.attributes)
                for row in connection.execute(
                    select(base).where(base.c.study_instance_uid == study_instance_uid)
                )
            }
            keywords = {
                row.keyset: frozenset(row.keywords) for row in connection.execute(select(keysets))
            }
            query = select(each).where(each.c.study_instance_uid == study_instance_uid)
            for row in connection.execute(query):
                header = KeptHeader(
                    row.series_instance_uid,
                    row.sop_instance_uid,
                    row.digest,
                    _applied(bases[row.series_instance_uid], row.attributes),
                    keywords[row.keyset],
                    row.unreadable,
                )
                kept.setdefault(row.series_instance_uid, {})[row.sop_instance_uid] = header
        return kept

    def forget(self, before: float) -> int:
        """Forget the headers of studies of which nothing came since; return how many."""
        studies, base, each = schema.studies, schema.series_headers, schema.instance_headers
        old = select(studies.c.study_instance_uid).where(studies.c.last_instance_at < before)
        with self._database.writing() as connection:
            connection.execute(delete(base).where(base.c.study_instance_uid.in_(old)))
            return connection.execute(
                delete(each).where(each.c.study_instance_uid.in_(old))
            ).rowcount

    def count(self) -> int:
        """Return of how many instances a header is kept."""
        with self._database.reading() as connection:
            query = select(func.count()).select_from(schema.instance_headers)
            return int(connection.execute(query).scalar_one())

    def _keyset(self, connection: Connection, keywords: Collection[str]) -> str:
        names = sorted(keywords)
        keyset = hashlib.sha256(" ".join(names).encode()).hexdigest()[:16]
        row = {"keyset": keyset, "keywords": names}
        self._database.insert_new(connection, schema.header_keysets, row)
        return keyset

    def _bases(
        self, connection: Connection, study_instance_uid: str, headers: Iterable[KeptHeader]
    ) -> dict[str, Attributes]:
        """Return the header that each series is kept by; that of its first instance if new."""
        table = schema.series_headers
        here = table.c.study_instance_uid == study_instance_uid
        bases = {
            row.series_instance_uid: _read(row.attributes)
            for row in connection.execute(select(table).where(here))
        }
        for header in headers:
            if header.series_instance_uid not in bases:
                bases[header.series_instance_uid] = header.attributes
                row = {
                    "study_instance_uid": study_instance_uid,
                    "series_instance_uid": header.series_instance_uid,
                    "attributes": _difference({}, header.attributes),
                }
                self._database.insert(connection, table, row)
        return bases


def _difference(base: Attributes, header: Attributes) -> _Written:
    """Return what to change in `base` to have `header`; None takes an attribute away."""
    changed: dict[str, list[str] | None] = {
        keyword: list(values) for keyword, values in header.items() if base.get(keyword) != values
    }
    return changed | dict.fromkeys(base.keys() - header.keys())


def _applied(base: Attributes, difference: _Written) -> Attributes:
    applied = dict(base)
    for keyword, values in difference.items():
        if values is None:
            applied.pop(keyword, None)
        else:
            applied[keyword] = tuple(values)
    return applied


def _read(written: Mapping[str, list[str]]) -> Attributes:
    return {keyword: tuple(values) for keyword, values in written.items()}


def _pieces(items: Sequence[str], size: int) -> Iterable[Sequence[str]]:
    for begin in range(0, len(items), size):
        yield items[begin : begin + size]
