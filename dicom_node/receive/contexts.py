"""The presentation contexts that we accept: every storage SOP Class in every transfer syntax."""

from __future__ import annotations

from collections.abc import Sequence

from pydicom._uid_dict import UID_dictionary
from pynetdicom import AllStoragePresentationContexts, build_context
from pynetdicom.presentation import PresentationContext
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]

TRANSFER_SYNTAXES = tuple(
    uid for uid, entry in UID_dictionary.items() if entry[1] == "Transfer Syntax"
)
"""Every one of PS3.6 Table A-1, the retired ones too: old images still come in them."""


def accepted_contexts(extra_sop_classes: Sequence[str] = ()) -> list[PresentationContext]:
    """Return what an association may propose.

    Parameters
    ----------
    extra_sop_classes : sequence of str
        Private or new storage SOP Classes, from `receive.extra_sop_classes`.
    """
    storage = {str(context.abstract_syntax) for context in AllStoragePresentationContexts}
    storage.update(extra_sop_classes)
    return [build_context(Verification)] + [
        build_context(sop_class_uid, list(TRANSFER_SYNTAXES)) for sop_class_uid in sorted(storage)
    ]
