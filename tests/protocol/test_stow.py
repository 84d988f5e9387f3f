"""Results by STOW-RS: to servers that take them, refuse some, break off, or answer nonsense."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import pydicom
import pytest

from dicom_node.deliver.originals import Original
from dicom_node.deliver.store_scu import Item
from dicom_node.deliver.stow import Outcome, send, send_originals
from dicom_node.errors import PeerRefused, PeerUnreachable, ResultLost
from dicom_node.scu import qido
from dicom_node.scu.content import Content
from dicom_node.scu.web import WebAddress
from tests.certificates import Certificates
from tests.factories import CT_SERIES, STUDY, make_ct_series, write_series
from tests.fault.test_kill import sent_bytes
from tests.protocol.web_server import Reply, Request, WebServer, keeps_everything, told

CT = "1.2.840.10008.5.1.4.1.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"
UIDS = [f"{CT_SERIES}.{number}" for number in range(1, 6)]


@pytest.fixture
def items(tmp_path: Path) -> list[Item]:
    """Return five CT instances."""
    return [Item(path, CT, EXPLICIT) for path in write_series(make_ct_series(5), tmp_path)]


def address_of(server: WebServer, **changes: Any) -> WebAddress:
    return WebAddress(server.url, "ARCHIVE", **({"timeout_s": 5.0} | changes))


def refusals(outcomes: list[Outcome]) -> list[tuple[int, bool]]:
    """Return status and whether it may be tried again, of outcomes that must all be refusals."""
    assert all(isinstance(one, PeerRefused) for one in outcomes), outcomes
    return [(one.status, one.retryable) for one in outcomes if isinstance(one, PeerRefused)]


# ---------------------------------------------------------------- taken


def test_files_go_out_byte_for_byte_in_one_request(items: list[Item]) -> None:
    with WebServer(keeps_everything) as server:
        assert list(send(items, address_of(server))) == ["stored"] * 5
        [request] = server.requests
    assert (request.method, request.path) == ("POST", "/dicom-web/studies")
    assert list(request.parts) == [item.path.read_bytes() for item in items]
    assert request.headers["Accept"] == "application/dicom+json"
    assert request.headers["Content-Type"].startswith('multipart/related; type="application/dicom"')
    assert "Authorization" not in request.headers


def test_many_files_go_out_in_several_requests(items: list[Item]) -> None:
    with WebServer(keeps_everything) as server:
        assert list(send(items * 30, address_of(server))) == ["stored"] * 150
        assert [len(request.parts) for request in server.requests] == [64, 64, 22]


def test_an_outcome_is_known_before_the_next_request_is_made(items: list[Item]) -> None:
    with WebServer(keeps_everything) as server:
        outcomes = send(items * 30, address_of(server))
        assert next(outcomes) == "stored"
        assert len(server.requests) == 1


def test_nothing_to_send_asks_nothing() -> None:
    with WebServer(keeps_everything) as server:
        assert list(send([], address_of(server))) == []
        assert server.requests == []


def test_originals_go_out_as_files_of_ours(items: list[Item]) -> None:
    _, data_set = sent_bytes(items[0].path)
    original = Original(CT, UIDS[0], EXPLICIT, Content.of(data_set))
    with WebServer(keeps_everything) as server:
        assert list(send_originals([original], address_of(server))) == ["stored"]
        [[part]] = [request.parts for request in server.requests]
    sent = pydicom.dcmread(BytesIO(part))
    assert (sent.SOPInstanceUID, sent.file_meta.TransferSyntaxUID) == (UIDS[0], EXPLICIT)
    assert part.endswith(data_set)


# ---------------------------------------------------------------- refused


def test_each_instance_has_its_own_outcome(items: list[Item]) -> None:
    answer = told(UIDS[:2], failed={UIDS[2]: 0xA700, UIDS[3]: 0x0122}, warned={UIDS[4]: 0xB000})
    with WebServer(lambda _: Reply(202, answer)) as server:
        outcomes = list(send(items, address_of(server)))
        assert len(server.requests) == 1
    assert outcomes[:2] == ["stored", "stored"]
    assert outcomes[4] == "stored with warning 0xB000"
    assert refusals(outcomes[2:4]) == [(0xA700, True), (0x0122, False)]
    assert "ARCHIVE answered 0xA700" in str(outcomes[2])


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (409, told(failed=dict.fromkeys(UIDS, 0x0110)), (0x0110, True)),
        (409, told(failed=dict.fromkeys(UIDS, 0xA900)), (0xA900, False)),
        (409, None, (0x0110, False)),
        (400, None, (0xC000, False)),
        (413, None, (0xA700, False)),
        (415, None, (0x0122, False)),
        (500, b"<html>", (0x0110, True)),
        (202, None, (0x0110, True)),
        (202, told(["1.2.3"]), (0x0110, True)),
        (200, told(["1.2.3"]), (0x0110, True)),
        (200, told(failed={"1.2.3": 0xA700}), (0x0110, True)),
    ],
)
def test_a_refusal_is_one_of_each_instance(
    status: int, body: Any, expected: tuple[int, bool], items: list[Item]
) -> None:
    with WebServer(lambda _: Reply(status, body)) as server:
        assert refusals(list(send(items, address_of(server)))) == [expected] * 5


@pytest.mark.parametrize("status", [400, 413, 500])
def test_one_that_the_server_chokes_on_holds_up_no_other(status: int, items: list[Item]) -> None:
    def chokes(request: Request) -> Reply:
        uids = request.sop_instance_uids
        return Reply(status) if UIDS[2] in uids else Reply(200, told(uids))

    with WebServer(chokes) as server:
        outcomes = list(send(items, address_of(server)))
        assert [len(request.parts) for request in server.requests] == [5, 1, 1, 1, 1, 1]
    assert [one == "stored" for one in outcomes] == [True, True, False, True, True]


@pytest.mark.parametrize(
    "body",
    [
        None,
        b"",
        b"{",
        b"[7, null]",
        {"00081199": 7},
        {"00081199": {"Value": [7, {"00081155": {}}]}},
        {"00081199": {"Value": None}},
    ],
)
def test_success_that_names_nothing_is_success_in_other_words(body: Any, items: list[Item]) -> None:
    with WebServer(lambda _: Reply(200, body)) as server:
        [outcome] = send(items[:1], address_of(server))
    assert outcome == "stored, says HTTP 200; the answer names no instance"


def test_a_reason_that_is_no_number_is_a_failure_all_the_same(items: list[Item]) -> None:
    answer = told(failed={UIDS[0]: 1})
    answer["00081198"]["Value"][0]["00081197"]["Value"] = ["full"]
    with WebServer(lambda _: Reply(202, answer)) as server:
        assert refusals(list(send(items[:1], address_of(server)))) == [(0x0110, True)]


# ---------------------------------------------------------------- not reached


@pytest.mark.parametrize("status", [301, 307, 401, 403, 404, 405, 408, 429, 502, 503, 504])
def test_a_server_that_is_not_ready_for_us_is_unreachable(status: int, items: list[Item]) -> None:
    with WebServer(lambda _: Reply(status, headers={"Location": "/elsewhere"})) as server:
        with pytest.raises(PeerUnreachable, match=f"ARCHIVE answered HTTP {status}") as caught:
            list(send(items, address_of(server)))
        assert len(server.requests) == 1
    assert caught.value.retryable
    assert caught.value.hint


def test_what_was_taken_before_it_broke_is_known(items: list[Item]) -> None:
    def breaks(request: Request) -> Reply:
        return Reply(closes=True) if len(server.requests) > 1 else keeps_everything(request)

    with WebServer(breaks) as server:
        outcomes = send(items * 20, address_of(server))
        assert [next(outcomes) for _ in range(64)] == ["stored"] * 64
        with pytest.raises(PeerUnreachable):
            next(outcomes)


def test_half_an_answer_is_none(items: list[Item]) -> None:
    with (
        WebServer(lambda _: Reply(200, told(UIDS), declares=100_000)) as server,
        pytest.raises(PeerUnreachable, match="IncompleteRead"),
    ):
        list(send(items, address_of(server)))


def test_nobody_there_is_unreachable(items: list[Item], free_port: int) -> None:
    nobody = WebAddress(f"http://127.0.0.1:{free_port}", "ARCHIVE", timeout_s=2)
    with pytest.raises(PeerUnreachable, match="ARCHIVE cannot be reached") as caught:
        list(send(items, nobody))
    assert "stow_url" in caught.value.hint


def test_why_a_server_does_not_listen_to_the_end_is_heard(tmp_path: Path) -> None:
    """It answers 401 before it has read 60 MB, and hangs up."""
    large = tmp_path / "large.dcm"
    [small] = write_series(make_ct_series(1), tmp_path / "small")
    large.write_bytes(small.read_bytes() + bytes(60_000_000))
    with (
        WebServer(lambda _: Reply(401), reads=False) as server,
        pytest.raises(PeerUnreachable) as caught,
    ):
        list(send([Item(large, CT, EXPLICIT)], address_of(server)))
    # Where the reset of the connection overtakes the answer, that is all that can be known.
    assert "HTTP 401" in caught.value.message or "broke off" in caught.value.message


def test_environment_proxies_are_left_aside(
    items: list[Item], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with WebServer(keeps_everything) as server:
        assert list(send(items[:1], address_of(server))) == ["stored"]


# ---------------------------------------------------------------- our own files


def test_a_file_that_is_gone_or_broken_is_ours_to_mend(items: list[Item]) -> None:
    items[1].path.unlink()
    items[3].path.write_bytes(b"no DICOM" * 100)
    with WebServer(keeps_everything) as server:
        outcomes = list(send(items, address_of(server)))
        assert [len(request.parts) for request in server.requests] == [3]
    assert [one == "stored" for one in outcomes] == [True, False, True, False, True]
    assert all(isinstance(outcomes[index], ResultLost) for index in (1, 3))


def test_a_file_that_shrinks_while_it_is_sent_costs_itself_only(items: list[Item]) -> None:
    with WebServer(keeps_everything) as server:
        outcomes = send(items, address_of(server))  # all have been looked at
        content = items[1].path.read_bytes()
        items[1].path.write_bytes(content[: len(content) // 2])
        said = list(outcomes)
    assert [one == "stored" for one in said] == [True, False, True, True, True]
    assert isinstance(said[1], ResultLost)
    assert "it became shorter" in said[1].message


# ---------------------------------------------------------------- who we are


def test_a_token_is_read_anew_for_each_request(items: list[Item], tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("first\n")
    with WebServer(keeps_everything) as server:
        address = address_of(server, token_file=token)
        outcomes = send(items * 20, address)
        next(outcomes)
        token.write_text("second\n")
        list(outcomes)
        said = [request.headers["Authorization"] for request in server.requests]
    assert said == ["Bearer first", "Bearer second"]


def test_user_and_password_go_out_as_basic(items: list[Item], tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("nöde:se:cret\n")
    with WebServer(keeps_everything) as server:
        address = address_of(server, password_file=file)
        list(send(items[:1], address))
        [request] = server.requests
    scheme, secret = request.headers["Authorization"].split()
    assert (scheme, base64.b64decode(secret).decode()) == ("Basic", "nöde:se:cret")
    assert "cret" not in repr(address)


def test_credentials_that_cannot_be_read_are_waited_for(items: list[Item], tmp_path: Path) -> None:
    with WebServer(keeps_everything) as server:
        address = address_of(server, token_file=tmp_path / "none")
        with pytest.raises(PeerUnreachable, match="credentials for ARCHIVE"):
            list(send(items, address))
        assert server.requests == []


@pytest.fixture
def tls_server(certificates: Certificates) -> Iterator[WebServer]:
    names = ("subjectAltName=IP:127.0.0.1",)
    holder = certificates.authority.certify("pacs.hospital.example", extensions=names)
    with WebServer(keeps_everything, certificate=holder.certificate, key=holder.key) as server:
        yield server


def test_over_tls_to_a_server_that_our_authority_knows(
    items: list[Item], certificates: Certificates, tls_server: WebServer
) -> None:
    address = address_of(tls_server, authorities=certificates.authority.certificate)
    assert list(send(items, address)) == ["stored"] * 5


@pytest.mark.parametrize(
    ("authorities", "words"),
    [("system", "certificate is not accepted"), ("missing", "authorities for ARCHIVE")],
)
def test_over_tls_to_nobody_else(
    authorities: str, words: str, items: list[Item], tls_server: WebServer, tmp_path: Path
) -> None:
    file = None if authorities == "system" else tmp_path / "none.pem"
    with pytest.raises(PeerUnreachable, match=words) as caught:
        list(send(items, address_of(tls_server, authorities=file)))
    assert "stow_authorities" in caught.value.hint
    assert tls_server.requests == []


# ---------------------------------------------------------------- is it there


def matches(*uids: str) -> list[dict[str, Any]]:
    return [
        {
            "00080016": {"vr": "UI", "Value": [CT]},
            "00080018": {"vr": "UI", "Value": [uid]},
        }
        for uid in uids
    ]


def test_what_it_has_of_a_series_is_told() -> None:
    def answers(request: Request) -> Reply:
        assert request.path.startswith(
            f"/dicom-web/studies/{STUDY}/series/{CT_SERIES}/instances?limit="
        )
        return Reply(200, matches(*UIDS)) if "offset=0" in request.path else Reply(204)

    with WebServer(answers) as server:
        found = qido.instances_in(address_of(server), STUDY, CT_SERIES)
    assert found == dict.fromkeys(UIDS, CT)


def test_pages_are_turned_until_nothing_new_comes() -> None:
    pages = [matches(*UIDS[:2]), matches(*UIDS[2:4]), matches(UIDS[4]), []]

    def answers(_: Request) -> Reply:
        return Reply(200, pages[len(server.requests) - 1])

    with WebServer(answers) as server:
        assert set(qido.instances_in(address_of(server), STUDY, CT_SERIES)) == set(UIDS)
        assert ["offset=1500" in request.path for request in server.requests][-1]


def test_a_server_that_knows_no_offset_is_asked_twice() -> None:
    with WebServer(lambda _: Reply(200, matches(*UIDS))) as server:
        assert len(qido.instances_in(address_of(server), STUDY, CT_SERIES)) == 5
        assert len(server.requests) == 2


@pytest.mark.parametrize("status", [204, 404])
def test_a_series_that_it_does_not_know_has_nothing(status: int) -> None:
    with WebServer(lambda _: Reply(status)) as server:
        assert qido.instances_in(address_of(server), STUDY, CT_SERIES) == {}


def test_a_search_that_fails_is_no_empty_series() -> None:
    with WebServer(lambda _: Reply(500)) as server, pytest.raises(PeerRefused) as caught:
        qido.instances_in(address_of(server), STUDY, CT_SERIES)
    assert caught.value.retryable


@pytest.mark.parametrize(("status", "error"), [(200, None), (204, None), (503, PeerUnreachable)])
def test_an_echo_is_a_search(status: int, error: type[Exception] | None) -> None:
    with WebServer(lambda _: Reply(status)) as server:
        if error is None:
            qido.echo(address_of(server))
            assert server.requests[0].path == "/dicom-web/studies?limit=1"
        else:
            with pytest.raises(error):
                qido.echo(address_of(server))


def multipart(content: bytes) -> Reply:
    body = b"--b\r\nContent-Type: application/dicom\r\n\r\n" + content + b"\r\n--b--\r\n"
    return Reply(200, body, 'multipart/related; type="application/dicom"; boundary=b')


def test_an_instance_comes_back_as_its_file(items: list[Item]) -> None:
    content = items[0].path.read_bytes()
    with WebServer(lambda _: multipart(content)) as server:
        back = qido.retrieve(address_of(server), STUDY, CT_SERIES, UIDS[0])
        [request] = server.requests
    assert back == content
    assert request.path == f"/dicom-web/studies/{STUDY}/series/{CT_SERIES}/instances/{UIDS[0]}"
    assert "transfer-syntax=*" in request.headers["Accept"]


def test_an_instance_that_is_not_there_is_none() -> None:
    with WebServer(lambda _: Reply(404)) as server:
        assert qido.retrieve(address_of(server), STUDY, CT_SERIES, UIDS[0]) is None


@pytest.mark.parametrize(
    "reply",
    [Reply(200, b"hello", "text/html"), multipart(b"hello"), Reply(200, b"", "x; boundary=b")],
)
def test_what_is_no_instance_is_refused(reply: Reply) -> None:
    with WebServer(lambda _: reply) as server, pytest.raises(PeerRefused, match="no Part 10 file"):
        qido.retrieve(address_of(server), STUDY, CT_SERIES, UIDS[0])


def test_a_root_may_end_with_a_slash(items: list[Item]) -> None:
    with WebServer(keeps_everything) as server:
        address = replace(address_of(server), url=f"{server.url}/")
        assert list(send(items[:1], address)) == ["stored"]
        assert server.requests[0].path == "/dicom-web/studies"
