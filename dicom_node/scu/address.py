"""Where a peer listens that we ask something of, and who we say we are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dicom_node.errors import PeerRefused, PeerUnreachable
from dicom_node.scu.requestor import Requestor
from dicom_node.scu.tls import ClientTls

SOP_CLASS_NOT_SUPPORTED = 0x0122  # PS3.7 C.5.6

_OUT_OF_RESOURCES = 0xA700
_TRANSIENT = frozenset({0x0110, 0x0213, 0xFE00})
"""Processing failure, resource limitation (PS3.7 C.5); a peer that cancelled by itself."""


@dataclass(frozen=True)
class Address:
    """A peer, and how long its silence may last."""

    host: str
    port: int
    called_ae_title: str
    calling_ae_title: str
    timeout_s: float = 30.0
    """For the association and for each answer; silence counts from the last sign of life."""
    associations: int = 1
    """How many at a time, where many instances are sent."""
    tls: ClientTls | None = None

    def associate(
        self, contexts: Sequence[tuple[str, str]], *, scp_of: Sequence[str] = ()
    ) -> Requestor:
        """Return an association with the peer; arguments and errors as for `Requestor`."""
        return Requestor(
            self.host,
            self.port,
            contexts,
            scp_of=scp_of,
            calling=self.calling_ae_title,
            called=self.called_ae_title,
            timeout_s=self.timeout_s,
            tls=self.tls,
        )

    def unreachable(self) -> PeerUnreachable:
        """Return what is to be raised where an association ended before its answer."""
        return PeerUnreachable(
            f"{self.called_ae_title} broke the association, or was silent for {self.timeout_s:g} s",
            hint="look into its log",
        )

    def refused(self, request: str, status: int, hint: str = "look into its log") -> PeerRefused:
        """Return what is to be raised where a request got a failure.

        An Error Comment is not repeated: some peers put into it whom the request was about.
        """
        return PeerRefused(
            f"{self.called_ae_title} answered 0x{status:04X} to a {request}",
            status=status,
            retryable=status & 0xFF00 == _OUT_OF_RESOURCES or status in _TRANSIENT,
            hint=hint,
        )

    def unsupported(self, service: str) -> PeerRefused:
        """Return what is to be raised where a service's presentation contexts were refused."""
        return PeerRefused(
            f"{self.called_ae_title} accepts no {service}",
            status=SOP_CLASS_NOT_SUPPORTED,
            hint=f"have it offer {service} to {self.calling_ae_title}",
        )
