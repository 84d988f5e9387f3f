"""C-STORE to peers that break what can be broken: each answer counts once, no end stays unheard."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from dicom_node.deliver.originals import Original
from dicom_node.deliver.store_scu import Item, echo, send, send_originals
from dicom_node.errors import PeerRefused, PeerUnreachable, ResultLost
from dicom_node.harness.pdu import PduType, PdvHeader, abort, c_echo_rq, p_data, pdu, pdv, us
from dicom_node.scu.address import Address
from dicom_node.scu.content import Content, FilePart
from tests.factories import make_instance, write
from tests.protocol.acceptor import Acceptor, Caller, Script

CT = "1.2.840.10008.5.1.4.1.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"
SMALL = b"\x08\x00\x18\x00UI\x06\x001.2.3\x00"
LARGE_BYTES = 40_000_000
"""More than two systems take into their buffers for a connection."""


def original(number: int = 1, content: Content | None = None) -> Original:
    return Original(CT, f"1.2.3.{number}", EXPLICIT, content or Content.of(SMALL))


def large(folder: Path) -> Content:
    file = folder / "large"
    with file.open("wb") as opened:
        opened.truncate(LARGE_BYTES)
    return Content.of(FilePart(file, 0, LARGE_BYTES))


def address(port: int, timeout_s: float = 20.0, associations: int = 1) -> Address:
    return Address("127.0.0.1", port, "ARCHIVE", "DICOM_NODE", timeout_s, associations)


def outcomes(
    *scripts: Script,
    originals: list[Original] | None = None,
    timeout_s: float = 20.0,
) -> tuple[list[object], PeerUnreachable | None]:
    """Send to an acceptor; return what was yielded, and what was raised then."""
    yielded: list[object] = []
    with Acceptor(*scripts) as acceptor:
        try:
            sent = send_originals(originals or [original()], address(acceptor.port, timeout_s))
            yielded.extend(sent)
        except PeerUnreachable as error:
            return yielded, error
    return yielded, None


def accepting(then: Script) -> Script:
    def script(caller: Caller) -> None:
        caller.accept()
        then(caller)

    return script


def ends_with(said: str, result: tuple[list[object], PeerUnreachable | None]) -> list[object]:
    """Return what was yielded before an error that says this."""
    yielded, error = result
    assert error is not None
    assert said in error.message
    assert error.hint
    return yielded


# ------------------------------------------------------------ before there is an association


@pytest.mark.parametrize(
    ("rejection", "said", "hint"),
    [
        ((1, 1, 3), "because of our calling AE title DICOM_NODE", "admit the calling AE title"),
        ((1, 1, 7), "because of its called AE title ARCHIVE", "be called ARCHIVE"),
        ((1, 1, 1), "without a reason", "admit"),
        ((2, 3, 2), "for now: it has as many associations as it takes", "more later"),
        ((2, 3, 1), "for now: it is congested", "more later"),
    ],
)
def test_a_rejection_says_why_and_who_must_do_what(
    rejection: tuple[int, int, int], said: str, hint: str
) -> None:
    def script(caller: Caller) -> None:
        caller.read_pdu()
        caller.send(pdu(PduType.A_ASSOCIATE_RJ, bytes([0, *rejection])))

    _, error = outcomes(script)
    assert error is not None
    assert "rejected the association" in error.message
    assert said in error.message
    assert hint in error.hint
    assert error.retryable


def close(caller: Caller) -> None:
    caller.read_pdu()


def answer_garbage(caller: Caller) -> None:
    caller.read_pdu()
    caller.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")


def answer_released(caller: Caller) -> None:
    caller.read_pdu()
    caller.send(pdu(PduType.A_RELEASE_RP, bytes(4)))


def answer_half(caller: Caller) -> None:
    caller.read_pdu()
    caller.send(pdu(PduType.A_ASSOCIATE_AC, b"", length=200) + bytes(40))
    caller.wait_until_closed()


def answer_abort(caller: Caller) -> None:
    caller.read_pdu()
    caller.send(abort(2, 1))


def answer_broken(caller: Caller) -> None:
    caller.read_pdu()
    caller.send(pdu(PduType.A_ASSOCIATE_AC, bytes(68) + b"\x21\x00\x00\xff\x01"))


@pytest.mark.parametrize(
    ("script", "said"),
    [
        (close, "closed the connection"),
        (answer_garbage, "broke the protocol"),
        (answer_released, "broke the protocol"),
        (answer_half, "did not answer the association request within 1 s"),
        (answer_abort, "aborted the association"),
        (answer_broken, "broke the protocol"),
    ],
)
def test_whoever_does_not_answer_the_request_is_unreachable(script: Script, said: str) -> None:
    assert ends_with(said, outcomes(script, timeout_s=1.0)) == []


def test_a_peer_that_accepts_nothing_is_told_from_one_that_is_not_there() -> None:
    def script(caller: Caller) -> None:
        caller.accept(result=3)
        caller.serve()

    ends_with("accepts nothing that was proposed", outcomes(script))


def test_an_answer_byte_by_byte_is_an_answer() -> None:
    class Dripping:
        """Sends each byte by a call of its own."""

        def __init__(self, caller: Caller) -> None:
            self._send = caller.send

        def __call__(self, data: bytes) -> None:
            for i in range(len(data)):
                self._send(data[i : i + 1])

    def script(caller: Caller) -> None:
        caller.send = Dripping(caller)  # type: ignore[method-assign]
        caller.accept()
        caller.serve()

    assert outcomes(script, originals=[original(1), original(2)]) == (["stored", "stored"], None)


# ------------------------------------------------------------ answers


@pytest.mark.parametrize(
    ("status", "retryable"),
    [(0xA700, True), (0xA7FF, True), (0x0110, True), (0xA900, False), (0xC001, False)],
)
def test_a_failure_is_the_instances_alone_and_may_pass_or_not(status: int, retryable: bool) -> None:
    def refuse_first(caller: Caller) -> None:
        caller.answer(caller.read_message(), status)
        caller.serve()

    yielded, error = outcomes(accepting(refuse_first), originals=[original(1), original(2)])
    assert error is None
    refused, stored = yielded
    assert isinstance(refused, PeerRefused)
    assert (refused.status, refused.retryable) == (status, retryable)
    assert f"0x{status:04X}" in refused.message
    assert stored == "stored"


def test_a_warning_is_stored() -> None:
    def warn(caller: Caller) -> None:
        caller.answer(caller.read_message(), 0xB007)
        caller.serve()

    assert outcomes(accepting(warn)) == (["stored with warning 0xB007"], None)


def test_a_second_answer_to_an_earlier_instance_is_passed_over() -> None:
    def twice(caller: Caller) -> None:
        first = caller.read_message()
        caller.answer(first)
        caller.answer(first, 0xA700)
        caller.serve()

    assert outcomes(accepting(twice), originals=[original(1), original(2)]) == (
        ["stored", "stored"],
        None,
    )


def test_an_answer_to_what_was_never_sent_ends_the_association() -> None:
    def wrong(caller: Caller) -> None:
        caller.answer(caller.read_message(), message_id=7)
        caller.wait_until_closed()

    ends_with("answered message 7, which was never sent", outcomes(accepting(wrong)))


def without_status(caller: Caller) -> None:
    caller.send_command(caller.response(caller.read_message())[:-1])
    caller.wait_until_closed()


def another_request(caller: Caller) -> None:
    request = caller.read_message()
    caller.answer({**request, 0x0100: b"\x30\x00"})  # the answer to a C-ECHO
    caller.wait_until_closed()


def no_command(caller: Caller) -> None:
    caller.read_message()
    caller.send(p_data(pdv(3, 3, b"nonsense")))
    caller.wait_until_closed()


def data_without_command(caller: Caller) -> None:
    caller.read_message()
    caller.send(p_data(pdv(3, 2, SMALL)))
    caller.wait_until_closed()


def longer_than_announced(caller: Caller) -> None:
    caller.read_message()
    caller.send(pdu(PduType.P_DATA_TF, bytes(6), length=1 << 20))
    caller.wait_until_closed()


@pytest.mark.parametrize(
    ("script", "said"),
    [
        (without_status, "no answer to the request"),
        (another_request, "no answer to the request"),
        (no_command, "broke the protocol"),
        (data_without_command, "broke the protocol"),
        (longer_than_announced, "broke the protocol"),
        (answer_garbage, "broke the protocol"),
    ],
)
def test_what_is_no_answer_is_never_taken_for_success(script: Script, said: str) -> None:
    assert ends_with(said, outcomes(accepting(script))) == []


def test_a_peer_that_never_answers_costs_the_timeout() -> None:
    def silent(caller: Caller) -> None:
        caller.answer(caller.read_message())
        caller.wait_until_closed()

    both = [original(1), original(2)]
    result = outcomes(accepting(silent), originals=both, timeout_s=1.0)
    assert ends_with("gave no answer within 1 s", result) == ["stored"]


def test_a_request_of_the_peer_does_not_disturb_the_answer() -> None:
    def curious(caller: Caller) -> None:
        request = caller.read_message()
        caller.send(p_data(pdv(1, 3, c_echo_rq(message_id=1))))
        caller.answer(request)
        caller.serve()

    both = [original(1), original(2)]
    assert outcomes(accepting(curious), originals=both) == (["stored", "stored"], None)


# ------------------------------------------------------------ in the middle of a data set


def read_some(caller: Caller) -> None:
    for _ in range(20):
        caller.read_pdu()


def read_the_rest(caller: Caller) -> None:
    last = False
    while not last:
        _, body = caller.read_pdu()
        last = bool(body[5] & PdvHeader.LAST)


FIRST_REQUEST = {0x0002: CT.encode() + b"\0", 0x0100: us(0x0001), 0x0110: us(1)}


def aborts(caller: Caller) -> None:
    read_some(caller)
    caller.send(abort(0, 0))
    caller.wait_until_closed()


def aborts_and_reads_no_more(caller: Caller) -> None:
    read_some(caller)
    caller.send(abort(0, 0))
    heard.wait(20)


def closes(caller: Caller) -> None:
    read_some(caller)


def resets(caller: Caller) -> None:
    read_some(caller)
    caller.reset()


def releases(caller: Caller) -> None:
    read_some(caller)
    caller.send(pdu(PduType.A_RELEASE_RQ, bytes(4)))
    caller.wait_until_closed()


heard = threading.Event()
"""Set when the sender has given up."""


@pytest.mark.parametrize(
    ("script", "said"),
    [
        (aborts, "aborted the association"),
        (aborts_and_reads_no_more, "aborted the association"),
        (closes, "closed the connection"),
        (resets, "closed the connection"),
        (releases, "released the association"),
    ],
)
def test_a_peer_that_gives_up_in_the_middle_is_heard_at_once(
    script: Script, said: str, tmp_path: Path
) -> None:
    heard.clear()
    with Acceptor(accepting(script)) as acceptor:
        # a timeout that the test would not live to see
        sent = send_originals([original(1, large(tmp_path))], address(acceptor.port, 3600.0))
        with pytest.raises(PeerUnreachable, match=said):
            next(sent)
        heard.set()


class Watched(list[Original]):
    """Instances that say when the second is asked for."""

    def __init__(self, *originals: Original) -> None:
        super().__init__(originals)
        self.second = threading.Event()

    def __getitem__(self, index: Any) -> Any:
        if index == 1:
            self.second.set()
        return super().__getitem__(index)


def test_the_next_instance_is_at_hand_before_the_answer_to_the_one_before(tmp_path: Path) -> None:
    file = tmp_path / "second"
    file.write_bytes(SMALL)
    part = FilePart(file, 0, len(SMALL))
    originals = Watched(original(1), original(2, Content.of(part)))

    def answers_late(caller: Caller) -> None:
        first = caller.read_message()
        assert originals.second.wait(20)
        caller.answer(first)
        caller.answer(caller.read_message())

    with Acceptor(accepting(answers_late)) as acceptor:
        assert list(send_originals(originals, address(acceptor.port))) == ["stored"] * 2
    assert originals.second.is_set()


def test_a_file_that_is_not_at_hand_costs_its_own_instance_alone(tmp_path: Path) -> None:
    gone = Content.of(FilePart(tmp_path / "gone", 0, 10))

    def answers(caller: Caller) -> None:
        for _ in range(2):
            caller.answer(caller.read_message())
        caller.serve()

    originals = [original(1), original(2, gone), original(3)]
    with Acceptor(accepting(answers)) as acceptor:
        first, second, third = send_originals(originals, address(acceptor.port))
    assert (first, third) == ("stored", "stored")
    assert isinstance(second, ResultLost)


def test_a_peer_that_stops_reading_is_noticed(tmp_path: Path) -> None:
    gone = threading.Event()

    def stalls(caller: Caller) -> None:
        read_some(caller)
        gone.wait(20)

    with Acceptor(accepting(stalls)) as acceptor:
        sent = send_originals([original(1, large(tmp_path))], address(acceptor.port, 1.0))
        with pytest.raises(PeerUnreachable, match="took nothing for 1 s"):
            next(sent)
        gone.set()


def test_a_slow_line_is_no_silence(tmp_path: Path) -> None:
    """The upload takes several timeouts, each gap of the peer is a fifth of one."""
    pause = threading.Event()

    def slow(caller: Caller) -> None:
        for _ in range(9):
            pause.wait(0.4)
            for _ in range(60):
                caller.read_pdu()
        read_the_rest(caller)
        caller.answer(FIRST_REQUEST)
        caller.serve()

    yielded, error = outcomes(
        accepting(slow),
        originals=[original(1, large(tmp_path))],
        timeout_s=2.0,
    )
    assert (yielded, error) == (["stored"], None)


def test_an_answer_before_the_end_of_the_data_set_counts(tmp_path: Path) -> None:
    """Some peers refuse before they have read it all; the message still has to end."""

    def early(caller: Caller) -> None:
        read_some(caller)
        caller.answer(FIRST_REQUEST, 0xA700)
        read_the_rest(caller)
        caller.serve()

    both = [original(1, large(tmp_path)), original(2)]
    (refused, stored), error = outcomes(accepting(early), originals=both)
    assert isinstance(refused, PeerRefused)
    assert (refused.status, stored, error) == (0xA700, "stored", None)


@pytest.mark.parametrize("pdu_bytes_max", [7, 64, 128, 4096, 1 << 20, 0, None])
def test_no_pdu_is_longer_than_the_peer_takes(pdu_bytes_max: int | None) -> None:
    content = bytes(range(256)) * (4 if pdu_bytes_max == 7 else 2000)

    def script(caller: Caller) -> None:
        caller.accept(pdu_bytes_max)
        caller.serve()

    with Acceptor(script) as acceptor:
        sent = send_originals([original(1, Content.of(content))], address(acceptor.port))
        assert list(sent) == ["stored"]
    [caller] = acceptor.callers
    assert caller.data_sets == [content]
    assert max(caller.pdus) <= min(pdu_bytes_max or 131072, 131072)
    if pdu_bytes_max != 7:
        assert max(caller.pdus) == min(pdu_bytes_max or 131072, 131072)  # and none is wasted


# ------------------------------------------------------------ our own files


def test_a_file_that_is_gone_is_no_fault_of_the_peer(tmp_path: Path) -> None:
    def script(caller: Caller) -> None:
        caller.accept()
        caller.serve()

    cut = tmp_path / "cut"
    cut.write_bytes(SMALL)
    lost = [Content.of(FilePart(tmp_path / "gone", 0, 4)), Content.of(FilePart(cut, 4, len(SMALL)))]
    originals = [original(n, content) for n, content in enumerate([*lost, Content.of(SMALL)])]
    (gone, short, stored), error = outcomes(script, originals=originals)
    assert error is None
    assert isinstance(gone, ResultLost)
    assert isinstance(short, ResultLost)
    assert "cut off" in short.message
    assert "restore" in short.hint
    assert stored == "stored"


def test_a_file_that_shrinks_while_it_is_sent_costs_the_association_and_no_other_instance(
    tmp_path: Path,
) -> None:
    content = large(tmp_path)

    def shrink(caller: Caller) -> None:
        caller.accept()
        read_some(caller)
        (tmp_path / "large").write_bytes(b"")
        caller.wait_until_closed()

    def well(caller: Caller) -> None:
        caller.accept()
        caller.serve()

    (lost, stored), error = outcomes(shrink, well, originals=[original(1, content), original(2)])
    assert error is None
    assert isinstance(lost, ResultLost)
    assert stored == "stored"


def test_results_go_out_of_their_files_and_a_broken_head_is_told(tmp_path: Path) -> None:
    def script(caller: Caller) -> None:
        caller.accept()
        caller.serve()

    good = write(make_instance(), tmp_path / "good.dcm")
    broken = tmp_path / "broken.dcm"
    broken.write_bytes(bytes(400))
    items = [Item(file, CT, EXPLICIT) for file in (good, broken, tmp_path / "gone.dcm")]
    with Acceptor(script) as acceptor:
        stored, headless, gone = send(items, address(acceptor.port))
    assert stored == "stored"
    assert isinstance(headless, ResultLost)
    assert isinstance(gone, ResultLost)
    assert good.read_bytes().endswith(acceptor.callers[0].data_sets[0])


# ------------------------------------------------------------ several associations


def test_a_batch_is_shared_and_the_outcomes_keep_its_order() -> None:
    statuses = {n: 0xC000 + n for n in range(40)}
    two = threading.Barrier(2)

    def script(caller: Caller) -> None:
        caller.accept()
        two.wait(20)  # both associations are there before either gets anything
        while True:
            request = caller.read_message()
            number = int(request[0x1000].rstrip(b"\0").rpartition(b".")[2])
            caller.answer(request, statuses[number])

    originals = [original(n) for n in range(40)]
    with Acceptor(script) as acceptor:
        got = list(send_originals(originals, address(acceptor.port, associations=2)))
    assert [one.status for one in got if isinstance(one, PeerRefused)] == list(statuses.values())
    assert len(acceptor.callers) == 2
    assert sum(len(caller.data_sets) for caller in acceptor.callers) == 40


def test_an_association_that_breaks_costs_what_was_under_way_on_it_alone() -> None:
    in_hand = threading.Event()

    def breaks(caller: Caller) -> None:
        caller.accept()
        caller.read_message()
        in_hand.set()

    def well(caller: Caller) -> None:
        caller.accept()
        in_hand.wait(20)
        caller.serve()

    with Acceptor(breaks, well) as acceptor:
        got = list(
            send_originals([original(n) for n in range(20)], address(acceptor.port, 20.0, 2))
        )
    broken = [one for one in got if isinstance(one, PeerUnreachable)]
    assert len(broken) == 1
    assert got.count("stored") == 19
    assert len(acceptor.callers[1].data_sets) == 19


def test_a_peer_that_takes_fewer_associations_gets_all_over_those() -> None:
    def rejects(caller: Caller) -> None:
        caller.read_pdu()
        caller.send(pdu(PduType.A_ASSOCIATE_RJ, bytes([0, 2, 3, 2])))

    def well(caller: Caller) -> None:
        caller.accept()
        caller.serve()

    with Acceptor(well, rejects) as acceptor:
        got = list(
            send_originals([original(n) for n in range(20)], address(acceptor.port, 20.0, 3))
        )
    assert got == ["stored"] * 20


def test_when_every_association_has_broken_the_rest_was_not_answered() -> None:
    def breaks(caller: Caller) -> None:
        caller.accept()
        caller.read_message()

    got: list[object] = []
    with Acceptor(breaks) as acceptor:
        sent = send_originals([original(n) for n in range(20)], address(acceptor.port, 20.0, 2))
        with pytest.raises(PeerUnreachable, match="closed the connection"):
            got.extend(sent)
    assert "stored" not in got


def test_who_stops_asking_ends_every_association() -> None:
    def script(caller: Caller) -> None:
        caller.accept()
        caller.answer(caller.read_message())
        caller.wait_until_closed()

    with Acceptor(script) as acceptor:
        sent = send_originals([original(n) for n in range(20)], address(acceptor.port, 3600.0, 2))
        assert next(sent) == "stored"
        sent.close()  # type: ignore[attr-defined]
    assert {thread.name for thread in threading.enumerate() if "to-ARCHIVE" in thread.name} == set()


# ------------------------------------------------------------ C-ECHO


def test_an_echo_is_answered() -> None:
    def script(caller: Caller) -> None:
        caller.accept()
        caller.serve()

    with Acceptor(script) as acceptor:
        echo(address(acceptor.port))


def test_an_echo_without_an_answer_is_unreachable() -> None:
    def script(caller: Caller) -> None:
        caller.accept()
        caller.wait_until_closed()

    with Acceptor(script) as acceptor, pytest.raises(PeerUnreachable):
        echo(address(acceptor.port, 0.5))
