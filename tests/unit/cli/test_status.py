"""`dicom-node status` and `dicom-node retry`."""

from __future__ import annotations

import json
from typing import Any

import pytest

from dicom_node.claims import Outcome
from dicom_node.ledger.ledger import Ledger
from dicom_node.lifecycle import CommitmentState, DeliveryEvent, DeliveryState, JobState, StudyState
from dicom_node.model import Forward, Priority, ReferencedInstance
from tests.unit.cli.sites import Site
from tests.unit.ledger import rows
from tests.unit.ledger.rows import STUDY, a_job, a_result, delivery_of, job_of, study_of
from tests.unit.route.made import key_of

PARKED_STUDY = "1.2.3.8"


@pytest.fixture
def busy(site: Site) -> Site:
    """A node with one of everything that needs a person, and of what does not."""
    with site.ledger() as ledger:
        parked = rows.complete(ledger, rows.an_instance(study_instance_uid=PARKED_STUDY))
        ledger.studies.routing_failed(parked, "its files are gone", 260.0)
        rows.routed(ledger, a_job("done"), a_job("parked"), a_job("refused"), a_job("queued"))
        results = [a_result(number, job_id="done") for number in (1, 2, 3, 4)]
        ledger.jobs.finish(rows.started(ledger, "done"), results, "found", {}, 400.0)
        ledger.jobs.give_up(rows.started(ledger, "parked"), "killed by SIGKILL; 3 times", 400.0)
        ledger.jobs.refuse(rows.started(ledger, "refused"), "not a chest", 400.0)
        dead, sent, waiting, _ = rows.sending(ledger)
        ledger.deliveries.give_up(dead.delivery, "ARCHIVE answered 0xC000", 420.0)
        ledger.deliveries.accepted(sent.delivery, "stored", 420.0)
        ledger.deliveries.postpone(waiting.delivery, "cannot be reached", 9e9, 420.0)
        ledger.events.record(10.0, ("association", "CT9"), "REJECTED", "CT9 is unknown")
    return site


def as_json(site: Site) -> Any:
    result = site.call("status", "--json")
    assert result.exit_code == 0
    return json.loads(result.output)


def test_status_shows_what_is_open_and_why(busy: Site) -> None:
    result = busy.call("status")
    assert result.exit_code == 0
    assert "jobs: 1 DONE, 1 PARKED, 1 QUEUED, 1 REFUSED" in result.output
    assert "deliveries: 1 DEAD, 1 PENDING, 1 SENDING, 1 SENT" in result.output
    for words in (
        [PARKED_STUDY, "PARKED", "its files are gone"],
        ["parked", "PARKED", "ct_lungs: killed by SIGKILL; 3 times"],
        ["queued", "QUEUED"],
        ["delivery", "1", "DEAD", "SEG to archive: ARCHIVE answered 0xC000"],
        ["delivery", "3", "PENDING", "SEG to archive: cannot be reached"],
        ["delivery", "4", "SENDING"],
    ):
        assert any(all(word in line for word in words) for line in result.output.splitlines())
    assert "2 refused at the door or by an engine: see `status --refused`" in result.output


def test_what_came_to_its_end_is_not_listed(busy: Site) -> None:
    names = {(item["what"], item["name"]) for item in as_json(busy)["open"]}
    assert names == {
        ("study", PARKED_STUDY),
        ("job", "parked"),
        ("job", "queued"),
        ("delivery", "1"),
        ("delivery", "2"),  # its proof is still to come
        ("delivery", "3"),
        ("delivery", "4"),
    }


def test_json_has_the_counts_the_reasons_and_the_refusals(busy: Site) -> None:
    document = as_json(busy)
    assert document["jobs"] == {"DONE": 1, "PARKED": 1, "QUEUED": 1, "REFUSED": 1}
    assert document["deliveries"] == {"DEAD": 1, "PENDING": 1, "SENDING": 1, "SENT": 1}
    [parked] = [item for item in document["open"] if item["name"] == "parked"]
    assert parked["reason"] == "ct_lungs: killed by SIGKILL; 3 times"
    assert parked["study_instance_uid"] == STUDY
    assert parked["since_s"] > 0
    assert [(one["what"], one["name"], one["reason"]) for one in document["refused"]] == [
        ("job", "refused", "ct_lungs: not a chest"),
        ("association", "CT9", "CT9 is unknown"),
    ]


def test_refused_lists_whom_and_what_was_refused_latest_first(busy: Site) -> None:
    assert busy.call("status", "--refused").output.splitlines() == [
        "1970-01-01 00:06:40 job refused: ct_lungs: not a chest",
        "1970-01-01 00:00:10 association CT9: CT9 is unknown",
    ]


def test_an_idle_node_says_so(site: Site) -> None:
    with site.ledger():
        result = site.call("status")
    assert result.exit_code == 0
    assert result.output.splitlines() == [
        "jobs: none",
        "deliveries: none",
        "forwards: none",
        "nothing is open",
    ]
    assert as_json(site)["open"] == []


@pytest.mark.parametrize("command", [["status"], ["retry", "--all"]])
def test_without_a_ledger_both_say_what_to_do(command: list[str], site: Site) -> None:
    result = site.call(*command)
    assert result.exit_code == 2
    assert "run `dicom-node serve` once" in result.output


@pytest.mark.parametrize("command", [["status"], ["retry", "--all"]])
def test_a_broken_configuration_is_exit_code_2_with_every_mistake(
    command: list[str], site: Site
) -> None:
    site.config.write_text("node: {ae_title: ''}\nreceive: {port: x}\n", "utf-8")
    result = site.call(*command)
    assert result.exit_code == 2
    assert f"{site.config}:1: node.ae_title: " in result.output
    assert f"{site.config}:2: receive.port: " in result.output


# ---------------------------------------------------------------- retry


def states(ledger: Ledger) -> dict[str, str]:
    return {
        "study": study_of(ledger, PARKED_STUDY).state,
        **{name: job_of(ledger, name).state for name in ("done", "parked", "refused", "queued")},
        **{str(number): delivery_of(ledger, number).state for number in (1, 2, 3, 4)},
    }


BEFORE = {
    "study": StudyState.PARKED,
    "done": JobState.DONE,
    "parked": JobState.PARKED,
    "refused": JobState.REFUSED,
    "queued": JobState.QUEUED,
    "1": DeliveryState.DEAD,
    "2": DeliveryState.SENT,
    "3": DeliveryState.PENDING,
    "4": DeliveryState.SENDING,
}


@pytest.mark.parametrize(
    ("subject", "changes"),
    [
        (PARKED_STUDY, {"study": StudyState.COMPLETE}),
        ("parked", {"parked": JobState.QUEUED}),
        ("refused", {"refused": JobState.QUEUED}),
        ("1", {"1": DeliveryState.PENDING}),
        ("2", {"2": DeliveryState.PENDING}),
    ],
)
def test_one_thing_is_tried_again_and_nothing_else(
    subject: str, changes: dict[str, str], busy: Site
) -> None:
    result = busy.call("retry", subject)
    assert result.exit_code == 0
    assert f"{subject} is tried again" in result.output
    with busy.ledger() as ledger:
        assert states(ledger) == BEFORE | changes


@pytest.mark.parametrize("subject", ["done", "queued", "4", "99", "1.2.3.999", "nonsense"])
def test_what_is_unknown_or_under_way_is_said_to_be(subject: str, busy: Site) -> None:
    result = busy.call("retry", subject)
    assert result.exit_code == 1
    assert f"{subject} is unknown, or has not come to an end" in result.output
    with busy.ledger() as ledger:
        assert states(ledger) == BEFORE


def test_all_retries_what_was_given_up_and_hurries_what_waits(busy: Site) -> None:
    result = busy.call("retry", "--all")
    assert result.exit_code == 0
    assert "1 waiting deliveries and forwards are tried at once" in result.output
    with busy.ledger() as ledger:
        assert states(ledger) == BEFORE | {
            "study": StudyState.COMPLETE,
            "parked": JobState.QUEUED,
            "1": DeliveryState.PENDING,
        }
        assert delivery_of(ledger, 3).not_before < 9e9


def test_several_are_tried_and_each_gets_its_answer(busy: Site) -> None:
    result = busy.call("retry", "parked", "nonsense", "1")
    assert result.exit_code == 1
    assert "parked is tried again" in result.output
    assert "nonsense is unknown" in result.output
    with busy.ledger() as ledger:
        assert states(ledger) == BEFORE | {
            "parked": JobState.QUEUED,
            "1": DeliveryState.PENDING,
        }


def test_retrying_nothing_says_what_to_name(busy: Site) -> None:
    result = busy.call("retry")
    assert result.exit_code == 1
    assert "name what `status` shows, or use --all" in result.output


# ---------------------------------------------------------------- proof, and who is left alone


@pytest.fixture
def doubtful(site: Site) -> Site:
    """A node with deliveries to two destinations in every end, and one that does not answer."""
    with site.ledger() as ledger:
        results = [a_result(number) for number in (1, 2, 3, 4)]
        rows.finished(ledger, *results, job=a_job(destinations=("archive", "research")))
        for destination in ("archive", "research"):
            dead, *others = rows.sending(ledger, destination=destination)
            ledger.deliveries.give_up(dead.delivery, "ARCHIVE answered 0xC000; its log", 420.0)
            for parcel in others:
                ledger.deliveries.accepted(parcel.delivery, "stored", 420.0)
            waiting, proven, unproven = ledger.proofs.due(destination, 420.0, 9)
            del waiting
            outcomes = [
                (proven, Outcome(DeliveryEvent.PROVEN, "it commits to keep it")),
                (unproven, Outcome(DeliveryEvent.UNPROVEN, "it offers no proof")),
            ]
            ledger.proofs.follow(outcomes, 430.0)
        ledger.breakers.opened("research", 3, "cannot be reached; check its host", 500.0, 440.0)
    return site


def ends(site: Site) -> dict[str, set[str]]:
    """Return the states of all deliveries by destination."""
    found: dict[str, set[str]] = {}
    with site.ledger() as ledger:
        for parcel in ledger.deliveries.in_states(*DeliveryState):
            found.setdefault(parcel.delivery.destination, set()).add(str(parcel.delivery.state))
    return found


ALL_ENDS = {"DEAD", "SENT", "PROVEN", "UNPROVEN"}


def test_status_shows_what_waits_for_its_proof_and_who_is_left_alone(doubtful: Site) -> None:
    shown = doubtful.call("status").output
    assert "deliveries: 2 DEAD, 2 PROVEN, 2 SENT, 2 UNPROVEN" in shown
    assert "2 delivered, and nobody proves that they are there: `status --dead`" in shown
    [line] = [line for line in shown.splitlines() if "destination" in line]
    assert all(words in line for words in ("research", "OPEN", "3 attempts in vain: cannot be"))
    listed = {(item["what"], item["state"]) for item in as_json(doubtful)["open"]}
    assert listed == {("destination", "OPEN"), ("delivery", "DEAD"), ("delivery", "SENT")}


def test_dead_letters_are_listed_with_their_reason_and_what_to_do(doubtful: Site) -> None:
    lines = doubtful.call("status", "--dead").output.splitlines()
    dead = f"delivery 1 DEAD of study {STUDY}: SEG to archive: ARCHIVE answered 0xC000; its log"
    assert dead in lines
    assert sum(" UNPROVEN of study " in line for line in lines) == 2
    assert lines[-1] == "`dicom-node retry NAME` tries one again, `retry --all` what is dead"
    document = json.loads(doubtful.call("status", "--dead", "--json").output)
    assert sorted(one["state"] for one in document["dead"]) == [*["DEAD"] * 2, *["UNPROVEN"] * 2]


def test_a_destination_that_is_believed_is_no_news(doubtful: Site) -> None:
    text = doubtful.config.read_text("utf-8")
    doubtful.config.write_text(f"{text}    proof: status\n", "utf-8")  # of the archive
    assert "1 delivered, and nobody proves" in doubtful.call("status").output
    dead = json.loads(doubtful.call("status", "--dead", "--json").output)["dead"]
    unproven = [one["reason"] for one in dead if one["state"] == "UNPROVEN"]
    assert unproven == ["SEG to research: it offers no proof"]
    assert doubtful.call("retry", "--unproven").exit_code == 0
    assert ends(doubtful)["archive"] == ALL_ENDS
    assert doubtful.call("retry", "--unproven", "--to", "archive").exit_code == 0
    assert "UNPROVEN" not in ends(doubtful)["archive"]


def test_a_node_without_dead_letters_says_so(site: Site) -> None:
    with site.ledger():
        assert site.call("status", "--dead").output == "nothing is dead, nothing unproven\n"


@pytest.mark.parametrize(
    ("options", "archive", "research"),
    [
        (["--all"], {"DEAD"}, {"DEAD"}),
        (["--unproven"], {"UNPROVEN"}, {"UNPROVEN"}),
        (["--all", "--unproven"], {"DEAD", "UNPROVEN"}, {"DEAD", "UNPROVEN"}),
        (["--all", "--to", "archive"], {"DEAD"}, set()),
        (["--unproven", "--to", "research"], set(), {"UNPROVEN"}),
        (["--all", "--to", "nobody"], set(), set()),
    ],
)
def test_some_or_all_are_sent_again(
    options: list[str], archive: set[str], research: set[str], doubtful: Site
) -> None:
    assert doubtful.call("retry", *options).exit_code == 0
    for name, gone in (("archive", archive), ("research", research)):
        expected = ALL_ENDS - gone | ({"PENDING"} if gone else set())
        assert ends(doubtful)[name] == expected


def test_retrying_all_has_who_is_left_alone_probed_at_once(doubtful: Site) -> None:
    with doubtful.ledger() as ledger:
        [breaker] = ledger.breakers.all_open()
        assert ledger.breakers.failed(breaker, "still", 9e9, 450.0)
    assert doubtful.call("retry", "--all").exit_code == 0
    with doubtful.ledger() as ledger:
        [breaker] = ledger.breakers.all_open()
        assert breaker.not_before < 9e9


# ---------------------------------------------------------------- originals and their proof


@pytest.fixture
def forwarded(site: Site) -> Site:
    """A node that has forwarded a study of four instances to three destinations.

    They are proven at one, unproven at another, and one of them is missing for good at the third.
    """
    with site.ledger() as ledger:
        come = [rows.an_instance(number) for number in range(1, 5)]
        rows.receive(ledger, *come)
        keys = tuple(key_of(one) for one in come)
        for name in ("archive", "research", "teaching"):
            planned = Forward(name, "", Priority.ROUTINE, "all", keys)
            ledger.routing.forward_at_once(STUDY, [planned], 400.0)
            [ready] = ledger.forwards.ready(name, 400.0)
            forward = ledger.forwards.start(ready, 400.0)
            assert forward is not None
            ledger.forwards.sent(forward, keys, [], 410.0)
            assert ledger.forwards.accepted(forward, "4 of 4 instances sent", 410.0)
        proven = Outcome(DeliveryEvent.PROVEN, "it commits to keep it")
        unproven = Outcome(DeliveryEvent.UNPROVEN, "it offers no proof")
        gone = Outcome(DeliveryEvent.GIVEN_UP, "not there; look into its log, then retry")
        at_archive = ledger.proofs.due("archive", 420.0, 9)
        ledger.proofs.follow([(claim, proven) for claim in at_archive[:2]], 420.0)
        at_research = ledger.proofs.due("research", 420.0, 9)
        ledger.proofs.follow([(claim, unproven) for claim in at_research], 420.0)
        at_teaching = ledger.proofs.due("teaching", 420.0, 9)
        ledger.proofs.follow([(at_teaching[0], gone)], 420.0)
        ledger.proofs.follow([(claim, proven) for claim in at_teaching], 420.0)
    return site


def test_status_shows_how_far_forwards_are_proven(forwarded: Site) -> None:
    shown = forwarded.call("status").output
    assert "forwards: 1 DEAD, 1 SENT, 1 UNPROVEN" in shown
    assert "originals to archive: 2 PROVEN, 2 SENT" in shown
    assert "originals to research: 4 UNPROVEN" in shown
    assert "originals to teaching: 1 DEAD, 3 PROVEN" in shown
    assert "1 delivered, and nobody proves that they are there: `status --dead`" in shown
    document = as_json(forwarded)
    assert document["originals"]["archive"] == {"PROVEN": 2, "SENT": 2}
    [waiting] = [item["reason"] for item in document["open"] if item["state"] == "SENT"]
    assert waiting == (
        "originals to archive by rule all: 4 of 4 instances sent, 2 proven; not asked for yet"
    )


def test_forwards_are_dead_letters_with_reason_and_hint(forwarded: Site) -> None:
    lines = forwarded.call("status", "--dead").output.splitlines()
    assert (
        f"forward f3 DEAD of study {STUDY}: originals to teaching by rule all: 3 of 4 instances "
        "sent, 1 refused: not there; look into its log, then retry"
    ) in lines
    assert (
        f"forward f2 UNPROVEN of study {STUDY}: originals to research by rule all: 4 of 4 "
        "instances: it offers no proof"
    ) in lines
    refused = forwarded.call("status", "--refused").output
    assert f"{rows.SERIES}.1: not there; look into its log, then retry" in refused


@pytest.mark.parametrize(
    ("options", "again"),
    [
        (["--all"], {"f3"}),
        (["--unproven"], {"f2"}),
        (["--all", "--unproven"], {"f2", "f3"}),
        (["--unproven", "--to", "teaching"], set()),
        (["--all", "--to", "teaching"], {"f3"}),
        (["f2"], {"f2"}),
    ],
)
def test_forwards_are_sent_again(options: list[str], again: set[str], forwarded: Site) -> None:
    assert forwarded.call("retry", *options).exit_code == 0
    with forwarded.ledger() as ledger:
        pending = ledger.forwards.in_states(DeliveryState.PENDING)
        assert {f"f{one.forward_id}" for one in pending} == again


# ---------------------------------------------------------------- commitments and conflicts


@pytest.fixture
def asked(site: Site) -> Site:
    """A node that owes a report, gave up on another, and got an instance with other bytes."""
    wanted = [ReferencedInstance(rows.CT_IMAGE_STORAGE, "1.2.3")]
    with site.ledger() as ledger:
        ledger.commitments.request("1.2.3.77", "SCANNER", wanted, 900.0, 900.0)
        dead = ledger.commitments.request("1.2.3.78", "SCANNER", wanted, 900.0, 900.0)
        [started] = ledger.commitments.start([dead], 901.0)
        assert ledger.commitments.give_up(started, "nobody answers", 902.0)
        rows.receive(ledger, rows.an_instance(), rows.an_instance(content="other"))
    return site


def test_commitments_that_are_owed_or_dead_are_shown(asked: Site) -> None:
    shown = json.loads(asked.call("status", "--json").output)["open"]
    found = {item["name"]: item for item in shown if item["what"] == "commitment"}
    assert {name: item["state"] for name, item in found.items()} == {"c1": "PENDING", "c2": "DEAD"}
    assert found["c2"]["reason"] == "report to SCANNER: nobody answers"


@pytest.mark.parametrize("subject", ["c2", "--all"])
def test_a_dead_commitment_is_reported_again(subject: str, asked: Site) -> None:
    result = asked.call("retry", subject)
    assert result.exit_code == 0
    assert "c2 is tried again" in result.output
    with asked.ledger() as ledger:
        commitment = ledger.commitments.get(2)
        assert commitment is not None
        assert commitment.state is CommitmentState.PENDING


@pytest.mark.parametrize("subject", ["c1", "c3"])
def test_a_commitment_that_is_owed_or_unknown_is_not_tried_again(subject: str, asked: Site) -> None:
    assert asked.call("retry", subject).exit_code == 1


def test_an_instance_that_came_with_other_bytes_is_an_alarm(asked: Site) -> None:
    assert "1 to be looked at (other bytes" in asked.call("status").output
    refused = asked.call("status", "--refused").output
    assert f"instance {rows.an_instance().sop_instance_uid}: received again with another" in refused
