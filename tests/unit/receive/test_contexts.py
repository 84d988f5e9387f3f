"""Every storage SOP Class in every transfer syntax; pynetdicom's negotiation is the witness."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom._uid_dict import UID_dictionary
from pydicom.uid import UID
from pynetdicom import AllStoragePresentationContexts
from pynetdicom.presentation import build_context, negotiate_as_acceptor

from dicom_node.errors import ProtocolBroken
from dicom_node.harness.pdu import Context, associate_rq
from dicom_node.protocol.pdu import AssociateRequest, associate_accept
from dicom_node.receive.contexts import AcceptedContext, Negotiated, Negotiator
from tests.unit.receive import witness
from tests.unit.receive.witness import Contexts

CONTEXTS_MAX = 128  # PS3.8 9.3.2.2: odd IDs from 1 to 255
VERIFICATION = "1.2.840.10008.1.1"
STUDY_ROOT = "1.2.840.10008.5.1.4.1.2.2.1"
CT = "1.2.840.10008.5.1.4.1.1.2"
COMMITMENT = "1.2.840.10008.1.20.1"
PRIVATE = "1.2.826.0.1.3680043.9.9999.1"
STORAGE = [str(context.abstract_syntax) for context in AllStoragePresentationContexts]
TRANSFER_SYNTAXES = [u for u, entry in UID_dictionary.items() if entry[1] == "Transfer Syntax"]
IMPLICIT, EXPLICIT, BIG_ENDIAN = TRANSFER_SYNTAXES[0], "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2"
PLAIN = [IMPLICIT, EXPLICIT, BIG_ENDIAN]
JPEG_LS = "1.2.840.10008.1.2.4.80"
UNKNOWN = "1.2.3.4.5"
MAXIMUM_LENGTH = 131072


def a_negotiator() -> Negotiator:
    return Negotiator([STUDY_ROOT], [PRIVATE], MAXIMUM_LENGTH)


def a_request(proposed: Contexts, **others: object) -> AssociateRequest:
    return AssociateRequest.parse(witness.associate_rq(proposed, **others)[6:])  # type: ignore[arg-type]


def answer_to(
    proposed: Contexts, roles: Mapping[str, tuple[bool, bool]] | None = None
) -> tuple[Negotiated, witness.Accepted]:
    """Return our outcome, and what pynetdicom reads in our answer."""
    request = a_request(proposed, roles=roles)
    negotiated = a_negotiator().negotiate(request)
    return negotiated, witness.read_accept(associate_accept(request, negotiated.items))


def by_pynetdicom(
    proposed: Contexts, roles: Mapping[str, tuple[bool, bool]] | None = None
) -> tuple[dict[int, int], dict[int, str], dict[str, tuple[bool, bool]]]:
    """Return the results, the transfer syntaxes and the roles that pynetdicom would answer.

    It takes the acceptor's first transfer syntax, so the acceptor's are put into the order of the
    proposal: each context is negotiated on its own.
    """
    results, transfer_syntaxes, answered = {}, {}, {}
    for context_id, (abstract_syntax, wanted) in proposed.items():
        supported = [build_context(VERIFICATION, PLAIN)]
        for sop_class in (*STORAGE, PRIVATE, STUDY_ROOT, VERIFICATION):
            known = PLAIN if sop_class in (STUDY_ROOT, VERIFICATION) else TRANSFER_SYNTAXES
            if sop_class == abstract_syntax:
                ordered = [uid for uid in wanted if uid in known] or known
                supported = [build_context(sop_class, list(ordered))]
        supported[0].scu_role, supported[0].scp_role = True, False
        [rq] = witness.contexts_of({context_id: (abstract_syntax, wanted)})
        wanted_roles = {UID(uid): role for uid, role in (roles or {}).items()}
        contexts, replies = negotiate_as_acceptor([rq], supported, {**wanted_roles})
        results[context_id] = int(contexts[0].result or 0)
        if contexts[0].result == 0:
            transfer_syntaxes[context_id] = str(contexts[0].transfer_syntax[0])
        for reply in replies:
            answered[str(reply.sop_class_uid)] = (bool(reply.scu_role), bool(reply.scp_role))
    return results, transfer_syntaxes, answered


def batches(items: Sequence[str]) -> Iterator[Contexts]:
    rest = iter(items)
    while batch := list(islice(rest, CONTEXTS_MAX)):
        yield {2 * index + 1: (uid, [EXPLICIT]) for index, uid in enumerate(batch)}


# ------------------------------------------------------------ what is accepted


def test_every_storage_sop_class_is_accepted() -> None:
    assert len(STORAGE) > 150
    for proposed in batches(STORAGE):
        negotiated, read = answer_to(proposed)
        assert set(read.results.values()) == {0}
        assert negotiated.contexts == {
            number: AcceptedContext(uid, EXPLICIT, is_storage=True)
            for number, (uid, _) in proposed.items()
        }


def test_every_transfer_syntax_is_accepted_for_storage() -> None:
    assert len(TRANSFER_SYNTAXES) > 60
    proposed = {
        2 * index + 1: (CT, [transfer_syntax])
        for index, transfer_syntax in enumerate(TRANSFER_SYNTAXES)
    }
    _, read = answer_to(proposed)
    assert list(read.transfer_syntaxes.values()) == TRANSFER_SYNTAXES


@pytest.mark.parametrize("sop_class", [VERIFICATION, STUDY_ROOT])
def test_a_service_takes_only_what_is_not_compressed(sop_class: str) -> None:
    proposed: Contexts = {
        1: (sop_class, [JPEG_LS]),
        3: (sop_class, [JPEG_LS, IMPLICIT]),
        5: (sop_class, [EXPLICIT]),
        7: (sop_class, [BIG_ENDIAN]),
    }
    negotiated, read = answer_to(proposed)
    assert read.results == {1: 4, 3: 0, 5: 0, 7: 0}
    assert not any(context.is_storage for context in negotiated.contexts.values())


def test_of_several_transfer_syntaxes_the_requestors_first_is_taken() -> None:
    _, read = answer_to({1: (CT, [UNKNOWN, *reversed(TRANSFER_SYNTAXES)])})
    assert read.transfer_syntaxes == {1: TRANSFER_SYNTAXES[-1]}


def test_a_private_sop_class_is_accepted_only_where_it_is_configured() -> None:
    _, read = answer_to({1: (PRIVATE, [EXPLICIT]), 3: (PRIVATE + ".2", [EXPLICIT])})
    assert read.results == {1: 0, 3: 3}


def test_a_request_with_all_contexts_and_all_transfer_syntaxes_is_answered() -> None:
    proposed = {
        number: (uid, TRANSFER_SYNTAXES) for number, (uid, _) in next(batches(STORAGE)).items()
    }
    _, read = answer_to(proposed)
    assert set(read.results.values()) == {0}
    assert len(read.results) == CONTEXTS_MAX


# ------------------------------------------------------------ the witness

abstract_syntaxes = st.sampled_from([*STORAGE[:3], PRIVATE, STUDY_ROOT, VERIFICATION, UNKNOWN])
transfer_syntaxes = st.lists(
    st.sampled_from([*PLAIN, JPEG_LS, UNKNOWN, UNKNOWN + ".6"]), min_size=1, max_size=5, unique=True
)
proposals = st.dictionaries(
    st.integers(0, 127).map(lambda number: 2 * number + 1),
    st.tuples(abstract_syntaxes, transfer_syntaxes),
    min_size=1,
    max_size=12,
)


@given(proposed=proposals)
def test_the_answer_is_pynetdicoms(proposed: Contexts) -> None:
    negotiated, read = answer_to(proposed)
    results, chosen, _ = by_pynetdicom(proposed)
    assert read.results == results
    assert read.transfer_syntaxes == chosen
    assert {
        number: (context.abstract_syntax, context.transfer_syntax)
        for number, context in negotiated.contexts.items()
    } == {number: (proposed[number][0], uid) for number, uid in chosen.items()}
    assert read.maximum_length == MAXIMUM_LENGTH
    assert read.implementation[0].startswith("2.25.")
    assert read.implementation[1].startswith("DICOM_NODE_")
    assert negotiated.application_context_fits
    assert negotiated.maximum_length == 16382


@given(
    proposed=proposals,
    roles=st.dictionaries(
        abstract_syntaxes, st.sampled_from([(True, False), (True, True)]), max_size=4
    ),
)
def test_who_wants_to_be_both_may_be_scu(
    proposed: Contexts, roles: Mapping[str, tuple[bool, bool]]
) -> None:
    _, read = answer_to(proposed, roles)
    assert read.roles == by_pynetdicom(proposed, roles)[2]


@pytest.mark.parametrize("wanted", [(False, True), (True, True)])
def test_an_archive_that_reports_a_commitment_may_be_its_scp(wanted: tuple[bool, bool]) -> None:
    """PS3.4 J.3.3: it opens the association, and is the SCP on it."""
    negotiator = Negotiator([COMMITMENT], [], MAXIMUM_LENGTH)
    request = a_request({1: (COMMITMENT, PLAIN[:1])}, roles={COMMITMENT: wanted})
    negotiated = negotiator.negotiate(request)
    assert negotiated.contexts[1].abstract_syntax == COMMITMENT
    read = witness.read_accept(associate_accept(request, negotiated.items))
    assert read.roles == {COMMITMENT: wanted}


def test_who_wants_to_be_scp_alone_may_be_neither() -> None:
    """PS3.7 D.3.3.4: 0 is the only answer to what we do not take, and to what was not asked."""
    _, read = answer_to({1: (CT, [EXPLICIT])}, {CT: (False, True)})
    assert read.roles == {CT: (False, False)}


def test_another_application_context_is_told() -> None:
    foreign = associate_rq([Context(1, CT)], application_context="1.2.3")
    assert (
        not a_negotiator().negotiate(AssociateRequest.parse(foreign[6:])).application_context_fits
    )
    without = associate_rq([Context(1, CT)], application_context=None)
    assert (
        not a_negotiator().negotiate(AssociateRequest.parse(without[6:])).application_context_fits
    )


# ------------------------------------------------------------ answers that are kept


@settings(max_examples=50)
@given(sequence=st.lists(proposals, min_size=1, max_size=3), order=st.lists(st.integers(0, 2)))
def test_what_was_asked_before_changes_no_answer(
    sequence: list[Contexts], order: list[int]
) -> None:
    keeper = a_negotiator()
    for index in order:
        proposed = sequence[index % len(sequence)]
        # the titles are none of the proposal's
        request = a_request(proposed, calling=f"CT{index}", called="OTHER")
        kept, fresh = keeper.negotiate(request), a_negotiator().negotiate(request)
        assert (kept.items, dict(kept.contexts)) == (fresh.items, dict(fresh.contexts))
        assert kept.maximum_length == fresh.maximum_length


def test_what_cannot_be_read_is_refused_each_time() -> None:
    broken = associate_rq([], user_items=[b"\x51\0"])
    negotiator = a_negotiator()
    for _ in range(3):
        with pytest.raises(ProtocolBroken):
            negotiator.negotiate(AssociateRequest.parse(broken[6:]))


def test_more_proposals_than_are_kept_get_the_right_answers_again() -> None:
    negotiator = a_negotiator()
    requests = [a_request({1: (f"1.2.{n}", [IMPLICIT]), 3: (CT, [EXPLICIT])}) for n in range(200)]
    first = [negotiator.negotiate(request).items for request in requests]
    assert [negotiator.negotiate(request).items for request in requests] == first


def test_not_all_large_proposals_are_kept() -> None:
    """Strangers must not fill the memory, each with a proposal of his own."""
    syntaxes = [f"1.2.{'9' * 50}.{number}" for number in range(30)]
    filler = [Context(number, CT, syntaxes) for number in range(3, 256, 2)]
    negotiator = a_negotiator()
    tracemalloc.start()
    try:
        for stranger in range(40):
            encoded = associate_rq([Context(1, f"1.2.{stranger}"), *filler])
            assert len(encoded) > 200_000
            negotiator.negotiate(AssociateRequest.parse(encoded[6:]))
        assert tracemalloc.get_traced_memory()[0] < 6_000_000
    finally:
        tracemalloc.stop()
