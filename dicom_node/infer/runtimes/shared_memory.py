"""A piece of memory that a server on the same machine may see.

Not multiprocessing's: that one takes the space page by page as it is written, and a full /dev/shm
(64 MB in a container) then kills the process; here it is taken whole or refused.
"""

from __future__ import annotations

import mmap
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dicom_node.infer.runtimes.port import Shape

_FOLDER = Path("/dev/shm")
_ALIGNMENT = 64
_BLANK = b"\xa5"


class SharedRegion:
    """A named region of POSIX shared memory, open to this user only.

    Parameters
    ----------
    size_bytes : int

    Raises
    ------
    OSError
        If there is not so much shared memory left, or none at all.
    """

    def __init__(self, size_bytes: int) -> None:
        self.name = f"dicom_node_{secrets.token_hex(8)}"
        self.size_bytes = size_bytes
        self._path = _FOLDER / self.name
        descriptor = os.open(self._path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)
        try:
            os.posix_fallocate(descriptor, 0, size_bytes)
            self._map = mmap.mmap(descriptor, size_bytes)
        except OSError:
            self.unlink()
            raise
        finally:
            os.close(descriptor)

    @property
    def key(self) -> str:
        """Its name for shm_open."""
        return f"/{self.name}"

    def write(self, offset: int, array: NDArray[Any]) -> None:
        """Lay a C-contiguous array at an offset."""
        self._map[offset : offset + array.nbytes] = array.data.cast("B")

    def blank(self, offset: int, size_bytes: int) -> None:
        """Mark where an answer is expected, so that none is told from the last one."""
        self._map[offset : offset + size_bytes] = _BLANK * size_bytes

    def read(self, offset: int, shape: Shape, dtype: np.dtype[Any]) -> NDArray[Any]:
        """Return a copy of the array that lies at an offset.

        Raises
        ------
        ValueError
            If nobody has written there since it was marked.
        """
        array = np.empty(shape, dtype)
        with memoryview(self._map) as view:
            array.data.cast("B")[:] = view[offset : offset + array.nbytes]
        if array.tobytes() == _BLANK * array.nbytes:
            raise ValueError("nothing was written to shared memory")
        return array

    def unlink(self) -> None:
        """Take its name away: who has it open keeps it, and with the last of them it is gone."""
        self._path.unlink(missing_ok=True)

    def close(self) -> None:
        """Give it back; may be called twice."""
        self.unlink()
        self._map.close()


def lay_out(sizes_bytes: Mapping[str, int]) -> tuple[dict[str, int], int]:
    """Return at which offset each tensor lies in one region, and how large that is."""
    offsets: dict[str, int] = {}
    end = 0
    for name, size_bytes in sizes_bytes.items():
        offsets[name] = end
        end += -(-size_bytes // _ALIGNMENT) * _ALIGNMENT
    return offsets, end
