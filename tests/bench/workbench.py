"""What every measurement needs: a place, the sender, certificates, files, and started receivers."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Protocol

from tests.bench import measure
from tests.bench.association import Credentials
from tests.bench.loads import load, write_files
from tests.bench.receivers import NotHere, Receiver
from tests.bench.sender import Sender
from tests.certificates import RSA, Authority, Holder
from tests.conftest import find_program

FILE_FOLDERS = 16


@dataclass(frozen=True)
class Contestant:
    """A receiver in a row, and how it is sent to.

    Parameters
    ----------
    key : str
        How tables and goals call it.
    share : float
        Of the row's instances; slow receivers get fewer, since rates are compared.
    nodelay : bool
        TCP_NODELAY of the sender.
    """

    key: str
    receiver: type[Receiver]
    share: float = 1.0
    tls: bool = False
    nodelay: bool = True


@dataclass
class Measurement:
    """What one run of one receiver gave."""

    values: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


class Probe(Protocol):
    """One kind of measurement."""

    @property
    def columns(self) -> Mapping[str, str]:
        """What it gives, each value's heading; the first is what receivers are compared by."""

    def measure(self, bench: Workbench, contestant: Contestant) -> Measurement:
        """Start the receiver, load it, stop it."""


class Workbench:
    """A folder for everything, and the sending process.

    Parameters
    ----------
    quick : bool
        A fifth of the instances, a twentieth of the connections: to see that all works.
    """

    def __init__(self, folder: Path, sender: Sender, quick: bool) -> None:
        self.folder = folder
        self.sender = sender
        self.quick = quick
        self._runs = 0

    def instances(self, wanted: int, contestant: Contestant, associations: int = 1) -> int:
        """Return how many instances to send, the same for every association."""
        scaled = wanted * contestant.share / (5 if self.quick else 1)
        return max(1, round(scaled / associations)) * associations

    def connections(self, wanted: int, contestant: Contestant) -> int:
        """Return how many connections to make."""
        return max(5, round(wanted * contestant.share / (20 if self.quick else 1)))

    @contextmanager
    def started(self, contestant: Contestant) -> Iterator[Receiver]:
        """Run a receiver in a folder of its own, with no write of others on its way to the disk.

        The folder stands after the block, until the next receiver is started.
        """
        self.clear()
        self._runs += 1
        folder = self.folder / f"run-{self._runs:04}"
        if contestant.tls:
            receiver = contestant.receiver(folder, self._authority, self._holder)
        else:
            receiver = contestant.receiver(folder)
        with receiver:
            os.sync()
            measure.settle(receiver.pid)
            yield receiver

    def clear(self) -> None:
        """Remove what the last receiver wrote."""
        shutil.rmtree(self.folder / f"run-{self._runs:04}", ignore_errors=True)

    def credentials(self, contestant: Contestant) -> Credentials | None:
        """Return what the sender shows the receiver, None where it does not speak TLS."""
        if not contestant.tls:
            return None
        holder = self._authority.certify("scanner.example", key=RSA)
        return Credentials(holder.certificate, holder.key, self._authority.certificate)

    @cached_property
    def file_folders(self) -> list[Path]:
        """CT files for `storescu`, in as many folders as there can be associations."""
        each = 5 if self.quick else 25
        return list(write_files(load("ct"), self.folder / "files", FILE_FOLDERS, each))

    @cached_property
    def _authority(self) -> Authority:
        openssl = find_program("openssl")
        if openssl is None:
            raise NotHere("openssl is not installed")
        return Authority(openssl, self.folder / "authority", "Benchmark CA")

    @cached_property
    def _holder(self) -> Holder:
        # RSA, since DCMTK 3.6.7 offers no suite for anything else
        return self._authority.certify("receiver.example", key=RSA)
