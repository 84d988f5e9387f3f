"""The connection to the ledger's database: SQLite on one machine, PostgreSQL for several.

SQLite runs in WAL mode with synchronous=FULL, so a committed row survives a power cut, and every
writing transaction begins IMMEDIATE, so two writers wait for each other instead of failing halfway.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Table, create_engine, event, insert
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DataError, DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from dicom_node.errors import ConfigError, InvariantBroken, StorageError, StoreFull

_BUSY_TIMEOUT_MS = 30_000
_URLS = "use sqlite:///FILE or postgresql+psycopg://USER:PASSWORD@HOST/DATABASE"


class Database:
    """Transactions on one database.

    Parameters
    ----------
    url : str
        SQLAlchemy's form: ``sqlite:////var/lib/dicom-node/ledger.sqlite`` or
        ``postgresql+psycopg://user@host/name``.
    """

    def __init__(self, url: str) -> None:
        try:
            self._url = make_url(url)
            self.dialect = self._url.get_backend_name()
            if self.dialect == "sqlite":
                timeout = {"timeout": _BUSY_TIMEOUT_MS / 1000}
                self._engine = create_engine(self._url, connect_args=timeout, hide_parameters=True)
                event.listen(self._engine, "connect", _set_pragmas)
            else:
                self._engine = create_engine(self._url, pool_pre_ping=True, hide_parameters=True)
        except (ArgumentError, ImportError) as error:
            # the URL may hold a password, so it is not repeated
            raise ConfigError("ledger.url cannot be used", hint=_URLS) from error
        if self.dialect not in {"sqlite", "postgresql"}:
            raise ConfigError(f"ledger.url names {self.dialect}", hint=_URLS)

    def migrate(self) -> None:
        """Make the database's folder and bring the schema to its newest version."""
        # Receivers, workers and most commands do without Alembic: a tenth of their start.
        from dicom_node.ledger import versions

        if self._file is not None:
            self._file.parent.mkdir(parents=True, exist_ok=True)
        with self.reading() as connection:
            if versions.found(connection) == versions.newest():
                return
        with self.migrating() as connection:
            versions.migrate(connection)

    @contextmanager
    def migrating(self) -> Iterator[Connection]:
        """A writing transaction that may replace tables to which others refer.

        SQLite copies a table to change its CHECK, and deletes the rows of the old one as it drops
        it: so nobody may watch its foreign keys until they are looked at in the end.
        """
        with self._translated(), self._engine.connect() as connection:
            if self.dialect == "sqlite":
                connection.exec_driver_sql("PRAGMA foreign_keys=OFF")
                connection.exec_driver_sql("BEGIN IMMEDIATE")
            try:
                yield connection
                if self.dialect == "sqlite":
                    broken = connection.exec_driver_sql("PRAGMA foreign_key_check").first()
                    if broken is not None:
                        raise InvariantBroken(
                            f"a migration left rows of {broken[0]} without theirs"
                        )
                connection.commit()
            finally:
                if self.dialect == "sqlite":
                    connection.rollback()
                    connection.exec_driver_sql("PRAGMA foreign_keys=ON")

    def require_current(self) -> None:
        """Raise ConfigError unless the schema is there in the newest version."""
        from dicom_node.ledger import versions

        newest, version = versions.newest(), None
        if self._file is None or self._file.exists():  # SQLite would make the file
            with self.reading() as connection:
                version = versions.found(connection)
        if version != newest:
            raise ConfigError(
                f"the ledger is at version {version}, this program needs {newest}",
                hint="run `dicom-node serve` once: it makes and migrates the ledger",
            )

    @property
    def _file(self) -> Path | None:
        """SQLite's file; None where the database is no file."""
        database = self._url.database if self.dialect == "sqlite" else None
        return Path(database) if database else None

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A transaction that may write: committed at the end, undone on any exception."""
        with self._translated(), self._engine.connect() as connection:
            if self.dialect == "sqlite":
                connection.exec_driver_sql("BEGIN IMMEDIATE")
            yield connection
            connection.commit()

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A transaction that only reads; it never waits for a writer."""
        with self._translated(), self._engine.connect() as connection:
            yield connection

    def insert_new(self, connection: Connection, table: Table, row: Mapping[str, Any]) -> bool:
        """Insert a row unless its key is taken; return whether it was inserted."""
        make = sqlite_insert if self.dialect == "sqlite" else postgresql_insert
        statement = make(table).values(**row).on_conflict_do_nothing()
        inserted = connection.execute(statement.returning(*table.primary_key.columns))
        return inserted.first() is not None

    def insert_missing(
        self, connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]]
    ) -> None:
        """Insert rows, leaving out those that a unique key is taken by."""
        make = sqlite_insert if self.dialect == "sqlite" else postgresql_insert
        connection.execute(make(table).on_conflict_do_nothing(), list(map(dict, rows)))

    def insert(self, connection: Connection, table: Table, row: Mapping[str, Any]) -> None:
        connection.execute(insert(table).values(**row))

    def close(self) -> None:
        self._engine.dispose()

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except PoolTimeout as error:
            raise StorageError(
                "the ledger is busy", hint="lower receive.associations_max"
            ) from error
        except DBAPIError as error:
            text = str(error.orig)
            if "full" in text or "No space left" in text:
                raise StoreFull(
                    "the ledger's disk is full", hint="free space on the disk of the ledger"
                ) from error
            if isinstance(error, DataError):  # a value that no database takes, not a broken one
                raise InvariantBroken("the ledger does not take a value of ours") from error
            raise StorageError(
                f"the ledger failed: {text}", hint="check ledger.url and its database"
            ) from error


def _set_pragmas(connection: sqlite3.Connection, _record: object) -> None:
    connection.isolation_level = None  # we say BEGIN ourselves
    for pragma in (
        "journal_mode=WAL",
        "synchronous=FULL",
        f"busy_timeout={_BUSY_TIMEOUT_MS}",
        "foreign_keys=ON",
        "wal_autocheckpoint=4000",
    ):
        connection.execute(f"PRAGMA {pragma}")
