"""The error tree: the class says who must act, its attributes say what happens next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


class DicomNodeError(Exception):
    """Base of every error that this package raises on purpose.

    Parameters
    ----------
    message : str
        What happened, for the log. Never holds a patient's name, ID or birth date.
    hint : str, optional
        What the operator can do about it.
    """

    retryable = False

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    @property
    def in_words(self) -> str:
        """What happened, and what the operator can do about it: for a reason in the ledger."""
        return f"{self.message}; {self.hint}" if self.hint else self.message


@dataclass(frozen=True)
class Mistake:
    """One mistake in one configuration file."""

    file: str
    line: int
    """From 1; 0 where no line is to blame."""
    key: str
    message: str

    def __str__(self) -> str:
        key = f"{self.key}: " if self.key else ""
        return f"{self.file}:{self.line}: {key}{self.message}"


class ConfigError(DicomNodeError):
    """The configuration cannot be used; raised at start only, with every mistake at once."""

    def __init__(
        self, message: str = "", *, mistakes: Sequence[Mistake] = (), hint: str = ""
    ) -> None:
        super().__init__(message or "\n".join(str(mistake) for mistake in mistakes), hint=hint)
        self.mistakes = tuple(mistakes)


class InstanceRefused(DicomNodeError):
    """An instance is not taken; `status` answers the C-STORE (PS3.4 B.2.3)."""

    def __init__(self, message: str, *, status: int, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.status = status


class ProtocolBroken(DicomNodeError):
    """A peer broke PS3.7 or PS3.8, or speaks no DICOM; the association is aborted.

    `reason` is that of the A-ABORT (PS3.8 9.3.8), 0 where the standard has none that fits.
    """

    def __init__(self, message: str, reason: int = 0) -> None:
        super().__init__(message)
        self.reason = reason


class StudyUnusable(DicomNodeError):
    """The input is not what the engine was made for; a person decides."""


class EngineError(DicomNodeError):
    """An engine failed: its folder is broken or its model raised."""


class EngineUnavailable(EngineError):
    """An engine cannot run now: the device is lost or out of memory."""

    retryable = True


class DeviceFull(EngineUnavailable):
    """A device has not the memory that was asked for; less of it, or the processor, may do."""


class DeviceLost(EngineUnavailable):
    """Nothing more can be done with a device in this process, which has to end (CUDA's 700)."""


class DeliveryError(DicomNodeError):
    """A result could not be delivered to a destination."""


class ResultLost(DeliveryError):
    """Our own file of a result cannot be read; the destination is not to blame."""


class PeerUnreachable(DeliveryError):
    """No association, or it broke before the answer; the peer may come back."""

    retryable = True


class PeerRefused(DeliveryError):
    """The peer answered with a failure; `status` is its C-STORE status (PS3.4 B.2.3)."""

    def __init__(
        self, message: str, *, status: int, retryable: bool = False, hint: str = ""
    ) -> None:
        super().__init__(message, hint=hint)
        self.status = status
        self.retryable = retryable


class PriorsIncomplete(DeliveryError):
    """An archive has not sent all of a prior study; it may send the rest later."""

    retryable = True


class StorageError(DicomNodeError):
    """The store could not keep or find bytes."""


class StoreFull(StorageError):
    """The disk is full; the sender keeps its copy (status 0xA700)."""

    retryable = True


class InvariantBroken(DicomNodeError):
    """Our own mistake: the stage stops and the evidence is kept."""
