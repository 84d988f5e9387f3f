"""What became of the engines is kept in the ledger, on SQLite and on PostgreSQL alike."""

from __future__ import annotations

from dicom_node.ledger.ledger import Ledger


def test_how_an_engine_stood_against_its_test_vector_is_told_the_latest_first(
    ledger: Ledger,
) -> None:
    ledger.engines.record_parity(10.0, "ct_lungs", accepted=False, reason="FP16 is 0.01 off")
    ledger.engines.record_parity(11.0, "ct_lungs", accepted=True, reason="FP32 is 0.001 off")
    ledger.engines.record_parity(12.0, "mr_brain", accepted=True, reason="fine")
    told = ledger.engines.parities("ct_lungs")
    assert [(event.at, event.event, event.reason) for event in told] == [
        (11.0, "PARITY_ACCEPTED", "FP32 is 0.001 off"),
        (10.0, "PARITY_REFUSED", "FP16 is 0.01 off"),
    ]
    assert {(event.subject_kind, event.subject) for event in told} == {("engine", "ct_lungs")}
    assert ledger.engines.parities("ct_lungs", limit=1) == told[:1]
    assert ledger.engines.parities("another") == []


def test_other_events_of_the_same_name_are_none_of_an_engines(ledger: Ledger) -> None:
    ledger.events.record(1.0, ("study", "ct_lungs"), "PARITY_ACCEPTED", "a study of that name")
    ledger.events.record(2.0, ("engine", "ct_lungs"), "CANARY", "something else")
    assert ledger.engines.parities("ct_lungs") == []
