"""A trace of the system calls: nothing is answered before its sync has returned."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from dicom_node.harness.scanner import send
from tests.factories import make_ct_series, make_instance, write, write_series
from tests.node_process import NodeProcess, wait_until
from tests.ports import free_port

RequireProgram = Callable[[str], Path]

CALLS = "openat,pwritev,pwritev2,pwrite64,fsync,fdatasync,rename,renameat,renameat2,sendto,sendmsg"
SUCCESS = b"\0\0\0\x09\x02\0\0\0\0\0"
"""(0000,0900) Status 0x0000, as it lies in a response (PS3.7 E.1)."""
C_STORE_RSP = b"\0\0\0\x01\x02\0\0\0\x01\x80"


@dataclass(frozen=True)
class Call:
    """One system call, by the lines of the trace at which it began and returned."""

    name: str
    arguments: str
    began: int
    returned: int
    result: str

    @property
    def data(self) -> bytes:
        """Every string among its arguments, as bytes."""
        return b"".join(
            bytes.fromhex(text.replace("\\x", ""))
            for text in re.findall(r'"((?:\\x[0-9a-f]{2})*)"', self.arguments)
        )

    @property
    def descriptor(self) -> str:
        return self.arguments.split(",")[0].strip(" )")


@dataclass(frozen=True)
class Traced:
    """What a receiver did while it was sent three instances and a large one."""

    calls: list[Call]
    uids: list[str]
    large: str
    synced_segments: set[str]


def calls_of(trace: Path) -> Iterator[Call]:
    """Yield the calls of all threads; one that another thread interrupts stands in two lines."""
    begun: dict[str, tuple[int, str]] = {}
    for number, line in enumerate(trace.read_text("ascii", "replace").splitlines()):
        pid, _, rest = line.partition(" ")
        rest = rest.strip()
        if rest.endswith("<unfinished ...>"):
            begun[pid] = (number, rest.removesuffix("<unfinished ...>"))
            continue
        began = number
        if resumed := re.match(r"<\.\.\. \w+ resumed>(.*)", rest):
            if pid not in begun:
                continue
            began, before = begun.pop(pid)
            rest = before + resumed[1]
        if call := re.match(r"(\w+)\((.*)\)\s+= (\S+)", rest):
            yield Call(call[1], call[2], began, number, call[3])


@pytest.fixture(scope="module")
def traced(tmp_path_factory: pytest.TempPathFactory, require_program: RequireProgram) -> Traced:
    folder = tmp_path_factory.mktemp("traced")
    files = write_series(make_ct_series(3), folder / "sent")
    noise = np.random.default_rng(1).integers(-1000, 1000, (1600, 1600), np.int16)
    large = make_instance(noise, number=99)
    files.append(write(large, folder / "sent" / "large.dcm"))
    (folder / "rules.yaml").write_text("rules: []\n")
    port = free_port()
    node = NodeProcess(folder / "node", port, node={"rules_file": str(folder / "rules.yaml")})
    node.start()
    trace, said = folder / "trace", folder / "strace.log"
    options = ["-f", "-xx", "-s", "512", "-e", f"trace={CALLS}", "-o", str(trace)]
    with said.open("w") as log:
        strace = subprocess.Popen(
            [require_program("strace"), *options, "-p", str(node.child_pid("receiver"))],
            stdout=log,
            stderr=log,
        )
    try:
        wait_until(lambda: "attached" in said.read_text() or strace.poll() is not None, 30.0)
        if strace.poll() is not None and os.environ.get("CI") != "true":
            pytest.skip(f"strace may not attach here: {said.read_text()}")
        answers = send(files, "127.0.0.1", port, called="DICOM_NODE")
        assert [answer.status for answer in answers] == [0, 0, 0, 0]
        synced = synced_segments(node.child_pid("receiver"))
    finally:
        strace.send_signal(signal.SIGINT)
        strace.wait(60)
        node.stop()
    uids = [str(one.SOPInstanceUID) for one in make_ct_series(3)]
    return Traced(list(calls_of(trace)), uids, str(large.SOPInstanceUID), synced)


def synced_segments(pid: int) -> set[str]:
    """Return the descriptors of a process that are segments, open for synced writes."""
    return {
        descriptor.name
        for descriptor in Path(f"/proc/{pid}/fd").iterdir()
        if os.readlink(descriptor).endswith(".segment")
        and int(Path(f"/proc/{pid}/fdinfo/{descriptor.name}").read_text().split()[3], 8)
        & os.O_DSYNC
    }


def answer_to(calls: list[Call], uid: str) -> Call:
    [answer] = [
        call
        for call in calls
        if call.name in ("sendto", "sendmsg")
        and C_STORE_RSP in call.data
        and SUCCESS in call.data
        and uid.encode() in call.data
    ]
    return answer


def record_of(calls: list[Call], uid: str) -> Call:
    """Return the write of the record that holds an instance's row."""
    [record] = [
        call
        for call in calls
        if call.name.startswith("pwrite") and b"DCMNLOG1" in call.data and uid.encode() in call.data
    ]
    return record


def opening_of(calls: list[Call], call: Call) -> Call:
    """Return the openat that gave a call its descriptor; an empty one if that was before."""
    opened = [
        other
        for other in calls
        if other.name == "openat"
        and other.result == call.descriptor
        and other.returned < call.began
    ]
    return opened[-1] if opened else Call("openat", "", 0, 0, "")


def test_success_leaves_the_socket_only_after_the_synced_write_of_the_record_returned(
    traced: Traced,
) -> None:
    for uid in [*traced.uids, traced.large]:
        record = record_of(traced.calls, uid)
        assert record.descriptor in traced.synced_segments
        assert int(record.result) > 0
        assert record.returned < answer_to(traced.calls, uid).began


def test_a_large_instance_is_synced_named_and_its_folder_synced_before_its_record_is_written(
    traced: Traced,
) -> None:
    calls, large = traced.calls, traced.large
    record = record_of(calls, large)
    [named] = [
        call for call in calls if call.name.startswith("rename") and large.encode() in call.data
    ]
    synced = [call for call in calls if call.name in ("fsync", "fdatasync")]
    of_file = [call for call in synced if call.returned < named.began]
    of_folder = [call for call in synced if named.returned < call.began]
    part = named.data.split(b".part")[0] + b".part"
    folder = os.path.dirname(named.data.split(b".part")[1])
    assert any(opening_of(calls, call).data == part for call in of_file)
    assert any(
        opening_of(calls, call).data == folder and call.returned < record.began
        for call in of_folder
    )
