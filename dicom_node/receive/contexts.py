"""The presentation contexts that we accept: every storage SOP Class in every transfer syntax.

pynetdicom copies every context that an acceptor supports for each connection, and takes the
acceptor's order of transfer syntaxes. So we support nothing but C-ECHO until a requestor has said
what it wants, and then just that, in its own order: what it holds compressed it need not decode.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from pydicom._uid_dict import UID_dictionary
from pynetdicom import AllStoragePresentationContexts, build_context
from pynetdicom.presentation import PresentationContext
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]

TRANSFER_SYNTAXES = frozenset(
    uid for uid, entry in UID_dictionary.items() if entry[1] == "Transfer Syntax"
)
"""Every one of PS3.6 Table A-1, the retired ones too: old images still come in them."""

STORAGE_SOP_CLASSES = frozenset(
    str(context.abstract_syntax) for context in AllStoragePresentationContexts
)


def verification_context() -> PresentationContext:
    """Return the context of C-ECHO."""
    return build_context(Verification)


def supported_contexts(
    requested: Sequence[PresentationContext], extra_sop_classes: Collection[str] = ()
) -> list[PresentationContext]:
    """Return what we support of what a requestor proposes, in its order of preference.

    Parameters
    ----------
    requested : sequence of PresentationContext
        Of the A-ASSOCIATE-RQ (PS3.8 9.3.2.2).
    extra_sop_classes : collection of str
        Private or new storage SOP Classes, from `receive.extra_sop_classes`.
    """
    wanted: dict[str, dict[str, None]] = {}
    for context in requested:
        sop_class_uid = str(context.abstract_syntax)
        if sop_class_uid in STORAGE_SOP_CLASSES or sop_class_uid in extra_sop_classes:
            known = [str(uid) for uid in context.transfer_syntax if uid in TRANSFER_SYNTAXES]
            wanted.setdefault(sop_class_uid, {}).update(dict.fromkeys(known))
    return [verification_context()] + [
        # pynetdicom's defaults stand in where no syntax is known: then the refusal says why
        build_context(sop_class_uid, list(syntaxes) or None)
        for sop_class_uid, syntaxes in wanted.items()
    ]
