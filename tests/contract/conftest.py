"""The databases that the ledger's contract is kept on."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import psycopg
import pytest

from dicom_node.ledger.database import Database
from dicom_node.ledger.ledger import Ledger
from tests.unit.ledger import rows

RequireProgram = Callable[[str], Path]

USER = "node"
_START_WITHIN_S = 60.0


class PostgreSQL:
    """A server of our own on a free port of 127.0.0.1, below a folder of its own.

    PostgreSQL refuses to run as root, so root starts it as another user.
    """

    def __init__(self, initdb: Path, postgres: Path) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="dicom-node-postgresql-"))
        self._as_user: dict[str, Any] = {"cwd": self._folder}
        if os.geteuid() == 0:
            user = _somebody_else()
            os.chown(self._folder, user.pw_uid, user.pw_gid)
            self._as_user |= {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
        data = self._folder / "data"
        options = ["--auth=trust", f"--username={USER}", "--no-sync", "--encoding=UTF8"]
        self._call([initdb, "--pgdata", data, "--locale=C", *options])
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self._port: int = listener.getsockname()[1]
        settings = {
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": "",
            "fsync": "off",  # the tests are of our transactions, not of its disk
            "max_connections": "100",
        }
        written = [f"--{name}={value}" for name, value in settings.items()]
        with (self._folder / "log").open("wb") as log:
            self._process = subprocess.Popen(
                [postgres, "-D", data, "-p", str(self._port), *written],
                stdout=log,
                stderr=log,
                **self._as_user,
            )
        self._databases = count(1)
        self._wait_until_it_answers()

    def url(self, database: str) -> str:
        return f"postgresql+psycopg://{USER}@127.0.0.1:{self._port}/{database}"

    def new_database(self, template: str = "template1") -> str:
        """Make a database as a copy of another; return its name."""
        name = f"test_{next(self._databases)}"
        with self._connect() as connection:
            connection.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
        return name

    def stop(self) -> None:
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGQUIT)  # at once: nothing of it is kept
            self._process.wait(30)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _connect(self) -> psycopg.Connection[Any]:
        return psycopg.connect(
            host="127.0.0.1", port=self._port, user=USER, dbname="postgres", autocommit=True
        )

    def _wait_until_it_answers(self) -> None:
        give_up_at = time.monotonic() + _START_WITHIN_S
        while time.monotonic() < give_up_at and self._process.poll() is None:
            with contextlib.suppress(psycopg.OperationalError):
                self._connect().close()
                return
            time.sleep(0.05)
        log = (self._folder / "log").read_text("utf-8", "replace")
        self.stop()
        pytest.fail(f"PostgreSQL did not start:\n{log}")

    def _call(self, command: list[Path | str]) -> None:
        made = subprocess.run(command, capture_output=True, text=True, **self._as_user)
        if made.returncode:
            shutil.rmtree(self._folder, ignore_errors=True)
            pytest.fail(f"{command[0]} failed:\n{made.stdout}{made.stderr}")


def _somebody_else() -> pwd.struct_passwd:
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name)
    pytest.fail("PostgreSQL refuses to run as root, and there is no user postgres or nobody")


@pytest.fixture(scope="session")
def postgresql(require_program: RequireProgram) -> Iterator[PostgreSQL]:
    server = PostgreSQL(require_program("initdb"), require_program("postgres"))
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="session")
def migrated(postgresql: PostgreSQL) -> str:
    """Return the name of a migrated, empty database: the template of all others."""
    name = postgresql.new_database()
    ledger = Ledger(postgresql.url(name))
    ledger.migrate()
    ledger.close()
    return name


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgresql)])
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Return the URL of a database without a schema."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'ledger.sqlite'}"
    server: PostgreSQL = request.getfixturevalue("postgresql")
    return server.url(server.new_database())


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgresql)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Return the URL of a migrated database with one association that is open."""
    if request.param == "sqlite":
        rows.new_ledger(tmp_path).close()
        return f"sqlite:///{tmp_path / 'ledger.sqlite'}"
    server: PostgreSQL = request.getfixturevalue("postgresql")
    template: str = request.getfixturevalue("migrated")
    url = server.url(server.new_database(template))
    ledger = Ledger(url)
    rows.open_association(ledger)
    ledger.close()
    return url


@pytest.fixture
def ledger(url: str) -> Iterator[Ledger]:
    ledger = Ledger(url)
    yield ledger
    ledger.close()


@pytest.fixture
def database(url: str) -> Iterator[Database]:
    """Return the same database, for a look behind the ledger's back."""
    database = Database(url)
    yield database
    database.close()
