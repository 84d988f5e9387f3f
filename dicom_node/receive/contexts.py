"""The presentation contexts that we accept: every storage SOP Class in every transfer syntax."""

from __future__ import annotations

from collections.abc import Sequence

from pynetdicom import ALL_TRANSFER_SYNTAXES, AllStoragePresentationContexts, build_context
from pynetdicom.presentation import PresentationContext
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]


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
        build_context(sop_class_uid, ALL_TRANSFER_SYNTAXES) for sop_class_uid in sorted(storage)
    ]
