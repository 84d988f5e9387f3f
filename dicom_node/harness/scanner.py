"""A scanner for tests and demos: sends DICOM files by C-STORE, byte for byte as they are.

Only the File Meta is read. Each file is proposed with its own SOP Class and transfer syntax, and
what was not accepted is not sent: nothing is decoded or converted. Broken files go out as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from os import PathLike
from pathlib import Path
from typing import NamedTuple

from dicom_node.scu.part10 import Part10File
from dicom_node.scu.requestor import Requestor

STORAGE_CONTEXTS_MAX = 127
"""128 in one association (odd IDs 1 to 255, PS3.8 9.3.2.2), one of them for C-ECHO."""


class Answer(NamedTuple):
    """What became of one file."""

    file: Path
    status: int | None
    """Of the C-STORE response (PS3.4 B.2.3). None where no answer came: the file has no UIDs, its
    presentation context was refused, or the association broke before."""


def send(
    files: Iterable[str | PathLike[str]],
    host: str,
    port: int,
    *,
    calling: str = "SCANNER",
    called: str = "ANY-SCP",
    abort_after: int | None = None,
    pause: Callable[[int], object] | None = None,
    timeout_s: float = 30.0,
) -> list[Answer]:
    """Send files in the given order, in one association, or more where the contexts need it.

    Parameters
    ----------
    files : iterable of paths
        Part 10 files, or bare data sets without preamble and File Meta.
    host, port : str, int
        The acceptor.
    calling, called : str
        The AE titles of the association.
    abort_after : int, optional
        Send A-ABORT after so many answers instead of the rest and the release.
    pause : callable, optional
        Called between two instances with how many have been answered.
    timeout_s : float
        How long to wait for the association and for each answer.

    Returns
    -------
    list of Answer
        One for each file, in order.

    Raises
    ------
    PeerUnreachable
        If there is no association: refused, rejected or not answered.
    """
    opened = [Part10File.read(Path(file)) for file in files]
    answers: list[Answer] = []
    for batch in _batches(opened):
        contexts = [file.context for file in batch if file.context is not None]
        with Requestor(
            host, port, contexts, calling=calling, called=called, timeout_s=timeout_s
        ) as requestor:
            for file in batch:
                if abort_after is not None and len(answers) >= abort_after:
                    break
                if answers and pause is not None:
                    pause(len(answers))
                answers.append(Answer(file.path, requestor.store(file)))
            if abort_after is not None and len(answers) >= abort_after:
                requestor.abort()
                break
    unsent = opened[len(answers) :]
    return answers + [Answer(file.path, None) for file in unsent]


def echo(
    host: str,
    port: int,
    *,
    calling: str = "SCANNER",
    called: str = "ANY-SCP",
    timeout_s: float = 30.0,
) -> int | None:
    """Return the status of a C-ECHO, None without an answer; PeerUnreachable as for `send`."""
    with Requestor(host, port, calling=calling, called=called, timeout_s=timeout_s) as requestor:
        return requestor.echo()


def _batches(files: Sequence[Part10File]) -> Iterator[list[Part10File]]:
    """Cut the files, in order, where the contexts of one association are used up."""
    batch: list[Part10File] = []
    contexts: set[tuple[str, str]] = set()
    for file in files:
        if file.context is not None:
            if file.context not in contexts and len(contexts) == STORAGE_CONTEXTS_MAX:
                yield batch
                batch, contexts = [], set()
            contexts.add(file.context)
        batch.append(file)
    if batch:
        yield batch
