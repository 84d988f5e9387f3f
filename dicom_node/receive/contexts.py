"""Which presentation contexts we accept: every storage SOP Class in every transfer syntax.

Of several transfer syntaxes the requestor's first is taken: what it holds compressed it need not
decode. Scanners propose the same again and again, so answers are kept by what was proposed.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from pydicom._uid_dict import UID_dictionary
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AllStoragePresentationContexts
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]

from dicom_node.protocol.implementation import (
    IMPLEMENTATION_CLASS_UID,
    IMPLEMENTATION_VERSION_NAME,
)
from dicom_node.protocol.pdu import (
    APPLICATION_CONTEXT,
    AssociateRequest,
    ContextAnswer,
    Proposal,
    ProposedContext,
    associate_accept_items,
)

TRANSFER_SYNTAXES = frozenset(
    uid for uid, entry in UID_dictionary.items() if entry[1] == "Transfer Syntax"
)
"""Every one of PS3.6 Table A-1, the retired ones too: old images still come in them."""

STORAGE_SOP_CLASSES = frozenset(
    str(context.abstract_syntax) for context in AllStoragePresentationContexts
)

VERIFICATION = str(Verification)

PLAIN_TRANSFER_SYNTAXES = frozenset(
    map(str, (ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian))
)
"""In which the services beside storage take their data sets."""

REPORTING_SOP_CLASSES = frozenset({"1.2.840.10008.1.20.1"})
"""Those whose SCP may ask for an association with us, its SCU: storage commitment, which reports
what we asked it for (PS3.4 J.3.3)."""

_ACCEPTED = 0
_ABSTRACT_SYNTAX_NOT_SUPPORTED = 3
_TRANSFER_SYNTAXES_NOT_SUPPORTED = 4
_KEPT_BYTES_MAX = 4 << 20
"""Of proposals; the longest, of 128 contexts with every transfer syntax, has 210 KB."""


@dataclass(frozen=True)
class AcceptedContext:
    """A presentation context of an association."""

    abstract_syntax: str
    transfer_syntax: str
    is_storage: bool


@dataclass(frozen=True)
class Negotiated:
    """The outcome for one proposal."""

    application_context_fits: bool
    contexts: Mapping[int, AcceptedContext]
    """By presentation context ID."""
    maximum_length: int
    """Of the P-DATA-TF that the requestor takes; 0 for no limit."""
    items: bytes
    """The variable items of the A-ASSOCIATE-AC."""


class Negotiator:
    """Answers proposals.

    Parameters
    ----------
    service_sop_classes : collection of str
        Those of the services beside storage and C-ECHO.
    extra_sop_classes : collection of str
        Private or new storage SOP Classes, from `receive.extra_sop_classes`.
    maximum_length : int
        Of the P-DATA-TF that we take.
    """

    def __init__(
        self,
        service_sop_classes: Collection[str],
        extra_sop_classes: Collection[str],
        maximum_length: int,
    ) -> None:
        self._storage = STORAGE_SOP_CLASSES | set(extra_sop_classes)
        self._others = {VERIFICATION, *service_sop_classes}
        self._maximum_length = maximum_length
        self._kept: OrderedDict[bytes, Negotiated] = OrderedDict()
        self._kept_bytes = 0

    def negotiate(self, request: AssociateRequest) -> Negotiated:
        """Return the outcome for a request; ProtocolBroken if its items cannot be read."""
        known = self._kept.get(request.items)
        if known is not None:
            self._kept.move_to_end(request.items)
            return known
        negotiated = self._work_out(Proposal.parse(request.items))
        self._kept[request.items] = negotiated
        self._kept_bytes += len(request.items)
        while self._kept_bytes > _KEPT_BYTES_MAX:
            forgotten, _ = self._kept.popitem(last=False)
            self._kept_bytes -= len(forgotten)
        return negotiated

    def _work_out(self, proposal: Proposal) -> Negotiated:
        answers = [self._answer(context) for context in proposal.contexts]
        contexts = {
            context.context_id: AcceptedContext(
                context.abstract_syntax,
                answer.transfer_syntax,
                context.abstract_syntax in self._storage,
            )
            for context, answer in zip(proposal.contexts, answers, strict=True)
            if answer.result == _ACCEPTED
        }
        accepted = {context.abstract_syntax for context in contexts.values()}
        # we are the SCP: the requestor may be SCU, and SCP only to report (PS3.7 D.3.3.4)
        roles = {
            uid: (scu, scp if uid in REPORTING_SOP_CLASSES else 0)
            for uid, (scu, scp) in proposal.roles.items()
            if uid in accepted
        }
        items = associate_accept_items(
            answers,
            roles,
            self._maximum_length,
            IMPLEMENTATION_CLASS_UID,
            IMPLEMENTATION_VERSION_NAME,
        )
        fits = proposal.application_context == APPLICATION_CONTEXT
        return Negotiated(fits, contexts, proposal.maximum_length, items)

    def _answer(self, context: ProposedContext) -> ContextAnswer:
        if context.abstract_syntax in self._storage:
            known: Collection[str] = TRANSFER_SYNTAXES
        elif context.abstract_syntax in self._others:
            known = PLAIN_TRANSFER_SYNTAXES
        else:
            return ContextAnswer(
                context.context_id, _ABSTRACT_SYNTAX_NOT_SUPPORTED, str(ImplicitVRLittleEndian)
            )
        for uid in context.transfer_syntaxes:
            if uid in known:
                return ContextAnswer(context.context_id, _ACCEPTED, uid)
        return ContextAnswer(
            context.context_id, _TRANSFER_SYNTAXES_NOT_SUPPORTED, str(ImplicitVRLittleEndian)
        )
