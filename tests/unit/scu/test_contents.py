"""What a C-GET proposes to take."""

from __future__ import annotations

import pytest

from dicom_node.scu.contents import CONTEXTS_MAX, TRANSFER_SYNTAXES, Contents

CT = "1.2.840.10008.5.1.4.1.1.2"
SEG = "1.2.840.10008.5.1.4.1.1.66.4"
EXPLICIT = "1.2.840.10008.1.2.1"
IMPLICIT = "1.2.840.10008.1.2"


def sop_classes(count: int) -> tuple[str, ...]:
    return tuple(f"1.2.3.{number}" for number in range(count))


def test_one_sop_class_is_proposed_in_every_transfer_syntax() -> None:
    contexts = Contents((CT,)).contexts()
    assert [syntax for _, syntax in contexts] == list(TRANSFER_SYNTAXES)


def test_what_the_peer_says_it_has_comes_right_after_the_uncompressed() -> None:
    contexts = Contents((CT, SEG), ("1.2.840.113619.5.2",)).contexts()
    assert contexts[:6] == [
        (sop_class, syntax)
        for syntax in (EXPLICIT, IMPLICIT, "1.2.840.113619.5.2")
        for sop_class in (CT, SEG)
    ]


@pytest.mark.parametrize("count", [0, 1, 2, 5, 30, 60, 123, 200])
def test_contexts_fit_into_an_association_and_repeat_nothing(count: int) -> None:
    contexts = Contents(sop_classes(count)).contexts()
    assert len(contexts) == len(set(contexts)) <= CONTEXTS_MAX
    assert {sop_class for sop_class, _ in contexts} == set(sop_classes(count)[:CONTEXTS_MAX])


def test_sixty_sop_classes_can_all_come_uncompressed() -> None:
    contexts = set(Contents(sop_classes(60)).contexts())
    assert all(
        (uid, syntax) in contexts for uid in sop_classes(60) for syntax in (EXPLICIT, IMPLICIT)
    )
