"""Part 10 files on a local disk: a name exists only once its bytes are durable.

Theory of operation: write to a temporary name on the same file system, fsync the file, rename,
fsync the folder, and every folder above it that this process did not yet see synced: one that
already exists may be younger than its parent's last sync. After `save` returns, a power cut loses
nothing. A crash in between leaves at worst a file below `incoming/`, which the next start removes,
or a whole file that no row names, which harms nobody.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import threading
import uuid
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from dicom_node.clock import Checkpoint, pass_checkpoint
from dicom_node.errors import StorageError, StoreFull
from dicom_node.store.reading import StoredFile

_INCOMING = "incoming"
_FOLDERS_REMEMBERED = 4096
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class Disk:
    """The five file operations that `LocalStore` needs; tests pass one that fails."""

    def write(self, fd: int, data: memoryview) -> int:
        return os.write(fd, data)

    def sync(self, fd: int) -> None:
        os.fsync(fd)

    def rename(self, source: Path, target: Path) -> None:
        os.replace(source, target)

    def make_folder(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)

    def sync_folder(self, folder: Path) -> None:
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


def _require_inside(relative: str) -> None:
    if relative.startswith("/") or ".." in relative.split("/"):
        raise StorageError(f"{relative} leads out of the store")


class LocalStore:
    """Files below one folder, named by relative paths.

    Parameters
    ----------
    root : Path
        Made if it is not there.
    disk : Disk
        Where the file operations go.
    checkpoint : Checkpoint
        Told after each step of a save.
    """

    def __init__(
        self, root: Path, disk: Disk | None = None, checkpoint: Checkpoint = pass_checkpoint
    ) -> None:
        self.root = root
        self._disk = disk or Disk()
        self._checkpoint = checkpoint
        self.incoming = root / _INCOMING
        self._durable: OrderedDict[Path, None] = OrderedDict()
        self._folders = threading.Lock()
        with translated(root):
            for folder in reversed([root, *root.parents]):
                if not folder.exists():
                    self._make_folder(folder)
            self.incoming.mkdir(exist_ok=True)

    def path(self, relative: str) -> Path:
        """Return where a file lies; StorageError if the name leads out of the store."""
        _require_inside(relative)
        return self.root / relative

    def save(self, relative: str, pieces: Iterable[bytes | memoryview]) -> int:
        """Write a file durably; return its size in bytes.

        Saving the same name again replaces the file at once and whole.

        Raises
        ------
        StoreFull
            If the disk has no room; nothing is left behind.
        StorageError
            If the disk fails in any other way; nothing is left behind.
        """
        target = self.path(relative)
        part = self.incoming / f"{uuid.uuid4().hex}.part"
        with translated(target):
            try:
                size = self._write(part, pieces)
                self._place(part, target)
            except BaseException:
                with suppress(OSError):
                    part.unlink(missing_ok=True)
                raise
        return size

    def adopt(self, part: Path, relative: str) -> None:
        """Give a file whose bytes are durable its final name, durably.

        Raises
        ------
        StoreFull, StorageError
            As `save` does; the file then stays where it was.
        """
        target = self.path(relative)
        with translated(target):
            self._place(part, target)

    def file(self, place: str) -> StoredFile:
        """Return what lies at a place that the ledger names: a file, or a part of a segment."""
        _require_inside(place)
        return StoredFile.at(self.root, place)

    def remove_leftovers(self) -> int:
        """Remove what a crash left half-written; return how many files. Only at start."""
        leftovers = list(self.incoming.glob("*.part"))
        for part in leftovers:
            part.unlink(missing_ok=True)
        return len(leftovers)

    def free_bytes(self) -> int:
        return shutil.disk_usage(self.root).free

    def _write(self, part: Path, pieces: Iterable[bytes | memoryview]) -> int:
        size = 0
        fd = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o640)
        try:
            for piece in pieces:
                view = memoryview(piece)
                while view:
                    written = self._disk.write(fd, view)
                    size += written
                    view = view[written:]
            self._checkpoint("store.written")
            self._disk.sync(fd)
            self._checkpoint("store.synced")
        finally:
            os.close(fd)
        return size

    def _place(self, part: Path, target: Path) -> None:
        try:
            self._make_folders(target.parent)
            self._disk.rename(part, target)
            self._checkpoint("store.renamed")
            self._disk.sync_folder(target.parent)
            self._checkpoint("store.saved")
        except BaseException:
            self._durable.clear()  # somebody may have removed a folder that we remember
            raise

    def _make_folders(self, folder: Path) -> None:
        """Make `folder` and sync each level; who comes second waits until that is done."""
        with self._folders:
            wanted = []
            while folder != self.root and folder not in self._durable:
                wanted.append(folder)
                folder = folder.parent
            for new in reversed(wanted):
                self._make_folder(new)
                self._durable[new] = None
            while len(self._durable) > _FOLDERS_REMEMBERED:
                self._durable.popitem(last=False)

    def _make_folder(self, folder: Path) -> None:
        self._disk.make_folder(folder)
        self._disk.sync_folder(folder.parent)


def study_folder(area: str, study_instance_uid: str) -> str:
    """Return where a study lies below an area of the store: `instances` or `results`.

    Two hexadecimal digits of the study spread the studies over 256 folders.
    """
    spread = hashlib.sha256(study_instance_uid.encode()).hexdigest()[:2]
    return f"{area}/{spread}/{study_instance_uid}"


@contextmanager
def translated(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise StoreFull(
                f"no room for {path.name}", hint="free space on the disk of node.data_dir"
            ) from error
        raise StorageError(
            f"{path.name} could not be saved: {error.strerror}",
            hint="check the disk of node.data_dir and who owns it",
        ) from error
