"""What we propose for an association, and what a peer's answer comes to."""

from __future__ import annotations

from collections.abc import Sequence

from dicom_node.errors import InvariantBroken, PeerUnreachable
from dicom_node.protocol.acceptance import Acceptance, associate_request
from dicom_node.protocol.implementation import (
    IMPLEMENTATION_CLASS_UID,
    IMPLEMENTATION_VERSION_NAME,
)
from dicom_node.protocol.pdu import ProposedContext, Rejection
from dicom_node.scu.association import MAXIMUM_LENGTH

VERIFICATION = "1.2.840.10008.1.1"
CONTEXTS_MAX = 127
"""128 in one association (odd IDs 1 to 255, PS3.8 9.3.2.2), one of them for C-ECHO."""

_PLAIN = ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1")
_TRANSIENT = 2  # of an A-ASSOCIATE-RJ's results (PS3.8 9.3.4)


def request_of(
    contexts: Sequence[ProposedContext], calling: str, called: str, scp_of: Sequence[str]
) -> bytes:
    """Return an A-ASSOCIATE-RQ of this node."""
    return associate_request(
        contexts,
        calling_ae_title=calling,
        called_ae_title=called,
        maximum_length=MAXIMUM_LENGTH,
        implementation_class_uid=IMPLEMENTATION_CLASS_UID,
        implementation_version_name=IMPLEMENTATION_VERSION_NAME,
        scp_of=scp_of,
    )


def proposed(contexts: Sequence[tuple[str, str]]) -> list[ProposedContext]:
    """Return the presentation contexts to propose: C-ECHO's, then one for each pair."""
    pairs = dict.fromkeys(contexts)
    if len(pairs) > CONTEXTS_MAX:
        raise InvariantBroken(f"{len(pairs)} presentation contexts for one association")
    return [
        ProposedContext(1, VERIFICATION, _PLAIN),
        *(ProposedContext(2 * n + 1, uid, (syntax,)) for n, (uid, syntax) in enumerate(pairs, 1)),
    ]


def accepted_of(
    offered: Sequence[ProposedContext], answer: Acceptance
) -> dict[tuple[str, str], int]:
    """Return the accepted contexts' IDs; one with a syntax that was not proposed is of no use."""
    return {
        (context.abstract_syntax, syntax): context.context_id
        for context in offered
        if (syntax := answer.transfer_syntaxes.get(context.context_id, ""))
        in context.transfer_syntaxes
    }


_REASONS = {  # source, reason (PS3.8 Table 9-21)
    (1, 2): "our application context",
    (1, 3): "our calling AE title {calling}",
    (1, 7): "its called AE title {called}",
    (2, 2): "our protocol version",
    (3, 1): "for now: it is congested",
    (3, 2): "for now: it has as many associations as it takes",
}


def rejected(rejection: Rejection, who: str, calling: str, called: str) -> PeerUnreachable:
    """Return what is to be raised where an association is rejected."""
    known = _REASONS.get((rejection.source, rejection.reason), "without a reason")
    reason = known.format(calling=calling, called=called)
    word = "because of " if known.startswith(("our", "its")) else ""
    if rejection.result == _TRANSIENT:
        hint = "it may take more later; let it take more associations at a time"
    else:
        hint = f"have it admit the calling AE title {calling}, and be called {called}"
    return PeerUnreachable(f"{who} rejected the association {word}{reason}", hint=hint)
