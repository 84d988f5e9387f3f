"""Disks for tests: one that tells, one that fails, one that remembers what a power cut leaves."""

from __future__ import annotations

import os
from collections import defaultdict
from pathlib import Path

from dicom_node.store.local import Disk


class RecordingDisk(Disk):
    """A disk that notes each operation, with the name of what it touched, after it was done."""

    def __init__(self) -> None:
        self.operations: list[tuple[str, str]] = []

    def write(self, fd: int, data: memoryview) -> int:
        written = super().write(fd, data)
        self.operations.append(("write", ""))
        return written

    def sync(self, fd: int) -> None:
        super().sync(fd)
        self.operations.append(("sync", ""))

    def rename(self, source: Path, target: Path) -> None:
        super().rename(source, target)
        self.operations.append(("rename", target.name))

    def make_folder(self, folder: Path) -> None:
        super().make_folder(folder)
        self.operations.append(("make_folder", folder.name))

    def sync_folder(self, folder: Path) -> None:
        super().sync_folder(folder)
        self.operations.append(("sync_folder", folder.name))


class PowerCutDisk(Disk):
    """A disk on which only what was synced is safe, and whose n-th operation may fail.

    A file's content is safe from the moment its descriptor is synced. A name, that of a folder as
    well, is safe from the moment the folder that it stands in is synced. A name that was not synced
    may have reached the disk all the same, or not.

    Parameters
    ----------
    safe_root : Path
        A folder that was there, safely, before the test; all others must earn it.
    fail_at : int
        Which operation fails, counted from 1; 0 for none.
    error_number : int
        The errno that it fails with.
    """

    def __init__(self, safe_root: Path, fail_at: int = 0, error_number: int = 0) -> None:
        self.operations = 0
        self.renamed_at: list[int] = []
        self._safe_root = safe_root
        self._fail_at = fail_at
        self._error_number = error_number
        self._contents: dict[int, bytes] = {}
        """What was synced, by inode."""
        self._names: dict[Path, dict[str, int]] = defaultdict(dict)
        """The inode of each name that was synced, by folder."""

    def write(self, fd: int, data: memoryview) -> int:
        self._count()
        return super().write(fd, data)

    def sync(self, fd: int) -> None:
        self._count()
        with Path(f"/proc/self/fd/{fd}").open("rb") as file:
            self._contents[os.fstat(fd).st_ino] = file.read()

    def rename(self, source: Path, target: Path) -> None:
        self._count()
        super().rename(source, target)
        self.renamed_at.append(self.operations)

    def make_folder(self, folder: Path) -> None:
        self._count()
        super().make_folder(folder)

    def sync_folder(self, folder: Path) -> None:
        self._count()
        with os.scandir(folder) as entries:
            self._names[folder] = {entry.name: entry.inode() for entry in entries}

    def after_power_cut(self) -> dict[Path, bytes]:
        """Return the content of every file that is certainly there, whatever happens."""
        survivors: dict[Path, bytes] = {}
        folders = [self._safe_root]
        while folders:
            folder = folders.pop()
            for name, inode in self._names[folder].items():
                path = folder / name
                if path in self._names or path.is_dir():
                    folders.append(path)
                elif path.exists() and path.stat().st_ino == inode:
                    survivors[path] = self._contents.get(inode, b"")
        return survivors

    def at_worst(self) -> dict[Path, bytes]:
        """Return what is there if every name reached the disk, but no byte that was not synced."""
        files = [path for path in self._safe_root.rglob("*") if path.is_file()]
        return {path: self._contents.get(path.stat().st_ino, b"") for path in files}

    def _count(self) -> None:
        self.operations += 1
        if self.operations == self._fail_at:
            raise OSError(self._error_number, os.strerror(self._error_number))
