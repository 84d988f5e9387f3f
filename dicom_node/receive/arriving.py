"""An instance while it arrives: its bytes gather in blocks of memory, as they will lie on disk.

The first block begins with room for the head of the log's record, then preamble and File Meta, then
the data set as it comes. An instance of up to `_IN_MEMORY_BLOCKS` blocks becomes one record of the
receive log. A larger one is handed block by block to a file of its own, and has about
`_UNDER_WAY_MAX` blocks in memory at most.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable

import xxhash

from dicom_node.errors import InstanceRefused
from dicom_node.receive.identity import IdentityReader
from dicom_node.receive.policy import Identity, Status
from dicom_node.store.large import LargeFile, LargeFileWriter
from dicom_node.store.record import BLOCK_BYTES, whole_blocks

MEMORY_BLOCK_BYTES = 1 << 20
_IN_MEMORY_BLOCKS = 4
_UNDER_WAY_MAX = 8
_FREE_BLOCKS_MAX = 16


class BlockPool:
    """Blocks of memory that begin on a page; used by the loop's thread alone."""

    def __init__(self) -> None:
        self._free: list[memoryview] = []

    def take(self) -> memoryview:
        return self._free.pop() if self._free else memoryview(mmap.mmap(-1, MEMORY_BLOCK_BYTES))

    def give(self, block: memoryview) -> None:
        """Take a block back; what is too much goes back to the system."""
        if len(self._free) < _FREE_BLOCKS_MAX:
            self._free.append(block)


class Arriving:
    """One instance on its way in.

    Parameters
    ----------
    pool : BlockPool
    writer : LargeFileWriter
        Where blocks go that do not fit into memory.
    reader : IdentityReader
        Of the association: the instances of a series are alike.
    file_meta : bytes
        Preamble, prefix and File Meta Information (PS3.10 7.1).
    transfer_syntax_uid : str
    given_back : callable
        Called on the writer's thread when a block of a large instance was written.
    """

    def __init__(
        self,
        pool: BlockPool,
        writer: LargeFileWriter,
        reader: IdentityReader,
        file_meta: bytes,
        transfer_syntax_uid: str,
        given_back: Callable[[Arriving, memoryview], None],
    ) -> None:
        self._pool = pool
        self._writer = writer
        self._reader = reader
        self._transfer_syntax_uid = transfer_syntax_uid
        self._given_back = given_back
        self.data_offset = BLOCK_BYTES + len(file_meta)
        self.data_bytes = 0
        self.large: LargeFile | None = None
        self.blocks_under_way = 0
        self._is_handing_over = False
        self._identity: Identity | None = None
        self._hash = xxhash.xxh3_128()
        self._hashed = self.data_offset
        self._block = pool.take()
        self._block[BLOCK_BYTES : self.data_offset] = file_meta
        self._at = self.data_offset
        self._blocks = [self._block]

    @property
    def file_bytes(self) -> int:
        """The length of the Part 10 file."""
        return self.data_offset - BLOCK_BYTES + self.data_bytes

    @property
    def must_wait(self) -> bool:
        """Whether the disk has to catch up before more may be read."""
        return self.blocks_under_way >= _UNDER_WAY_MAX

    def room(self) -> memoryview:
        """Return where the next bytes belong: at least one, and no more than the block has left."""
        if self._at == MEMORY_BLOCK_BYTES:
            self._next_block()
        return self._block[self._at :]

    def took(self, size: int) -> None:
        """Take note that so many bytes lie in the room."""
        self._at += size
        self.data_bytes += size

    def write(self, fragment: memoryview) -> None:
        """Take the next bytes of the data set."""
        size = len(fragment)
        self.data_bytes += size
        at = self._at
        if at + size <= MEMORY_BLOCK_BYTES:
            self._block[at : at + size] = fragment
            self._at = at + size
            return
        taken = 0
        while taken < size:
            if self._at == MEMORY_BLOCK_BYTES:
                self._next_block()
            piece = fragment[taken : taken + MEMORY_BLOCK_BYTES - self._at]
            self._block[self._at : self._at + len(piece)] = piece
            self._at += len(piece)
            taken += len(piece)

    def end(self) -> tuple[Identity, bytes]:
        """Take the end of the data set; return its UIDs and its digest.

        A large instance's last block goes to its file.

        Raises
        ------
        InstanceRefused
            If the UIDs cannot be read.
        """
        identity = self._identity or self._read_identity(whole=True)
        self._update_hash()
        if self.large is not None:
            self._hand_over(self._block, self._at)
            self._blocks = []
        return identity, self._hash.digest()

    def record(self) -> list[memoryview]:
        """Return the blocks as they go into the log: whole disk blocks, zeros at the end."""
        end = whole_blocks(self._at)
        self._block[self._at : end] = bytes(end - self._at)
        return [*self._blocks[:-1], self._block[:end]]

    def free(self) -> None:
        """Give the memory back; of a large instance, also what its file has so far."""
        for block in self._blocks:
            self._pool.give(block)
        self._blocks = []

    def drop(self) -> None:
        """Forget the instance."""
        self.free()
        if self.large is not None:
            self._writer.drop(self.large)

    def _next_block(self) -> None:
        self._update_hash()
        if self.large is None and len(self._blocks) == _IN_MEMORY_BLOCKS:
            self._identity = self._read_identity(whole=False)
            self.large = self._writer.begin()
            for block in self._blocks:
                self._hand_over(block, MEMORY_BLOCK_BYTES)
            self._blocks = []
        elif self.large is not None:
            self._hand_over(self._block, MEMORY_BLOCK_BYTES)
            self._blocks = []
        self._block = self._pool.take()
        self._blocks.append(self._block)
        self._at = self._hashed = 0

    def _hand_over(self, block: memoryview, used: int) -> None:
        if self.large is None:
            return
        begin = 0 if self._is_handing_over else BLOCK_BYTES  # the file has no record's head
        self._is_handing_over = True
        self.blocks_under_way += 1
        self._writer.write(
            self.large, block[begin:], used - begin, lambda: self._given_back(self, block)
        )

    def _update_hash(self) -> None:
        self._hash.update(self._block[self._hashed : self._at])
        self._hashed = self._at

    def _read_identity(self, *, whole: bool) -> Identity:
        end = self._at if len(self._blocks) == 1 else MEMORY_BLOCK_BYTES
        first = self._blocks[0][self.data_offset : end]
        identity = self._reader.peek(first, self._transfer_syntax_uid)
        if identity is not None:
            return identity
        everything = b"".join([*self._blocks[:-1], self._block[: self._at]])[self.data_offset :]
        if whole:
            return self._reader.read(everything, self._transfer_syntax_uid)
        identity = self._reader.peek(everything, self._transfer_syntax_uid)
        if identity is None:
            raise InstanceRefused(
                f"its UIDs do not stand in its first {len(everything)} bytes",
                status=Status.CANNOT_UNDERSTAND,
                hint="the sender must repair the instance",
            )
        return identity
