"""Kill -9 at random moments under load: is anything lost or altered that was acknowledged?

    python -m tests.bench.bench_loss --kills 200

Four associations send without a pause, each on its own thread, and connect again whenever they are
cut off. The receiver alone is killed, then the whole node, in turn. In the end every instance that
was answered with Success must have its row, and its bytes must be those that were sent.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dicom_node.store.local import LocalStore
from tests.bench.association import Association, PeerFailed, Response, request_for
from tests.bench.loads import Load, load, numbered, sop_uid, study_uid
from tests.bench.receivers import free_port
from tests.bench.sender import Instance
from tests.node_process import NodeProcess, wait_until

ASSOCIATIONS = 4
_RUN_LONGEST_S = 0.6
_CALLED = "DICOM_NODE"


@dataclass(frozen=True)
class Outcome:
    """What was found in the end."""

    kills: int
    acknowledged: int
    lost: list[str]
    altered: list[str]


class _Sender:
    """Sends instance after instance on one association, and remembers what was acknowledged."""

    def __init__(self, template: Load, number: int, port: int) -> None:
        self._template = template
        self._number = number
        self._port = port
        self._next = 0
        self.acknowledged: list[int] = []
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        syntaxes = [self._template.transfer_syntax_uid]
        request = request_for(_CALLED, [(self._template.sop_class_uid, syntaxes)])
        while not self._stopping.is_set():
            try:
                association = Association(self._port, request)
            except (OSError, PeerFailed):
                self._stopping.wait(0.02)  # nobody listens for as long as the node is dead
                continue
            try:
                self._send(association)
            except (OSError, PeerFailed):
                association.close()

    def _send(self, association: Association) -> None:
        instance = Instance(self._template, self._number, association.pdu_bytes_max)
        while not self._stopping.is_set():
            number, self._next = self._next, self._next + 1
            instance.number(number, number % 65535 + 1)
            association.send(instance.whole)
            if association.response() == Response(number % 65535 + 1, 0):
                self.acknowledged.append(number)
        association.release()


def run(folder: Path, kills: int, seed: int, name: str = "mr") -> Outcome:
    """Kill so many times; return what was lost."""
    moments = random.Random(seed)
    template = load(name)
    rules = folder / "rules.yaml"
    rules.write_text("rules: []\n")
    node = NodeProcess(folder / "node", free_port(), node={"rules_file": str(rules)})
    node.start()
    senders = [_Sender(template, number, node.port) for number in range(ASSOCIATIONS)]
    for sender in senders:
        sender.start()
    for kill in range(kills):
        before = sum(len(sender.acknowledged) for sender in senders)
        wait_until(lambda: sum(len(s.acknowledged) for s in senders) > before, 60.0, "an answer")  # noqa: B023
        time.sleep(moments.random() * _RUN_LONGEST_S)
        if kill % 2:
            node.kill()
            node.start(until_it_listens=False)
        else:
            os.kill(node.child_pid("receiver"), signal.SIGKILL)
    for sender in senders:
        sender.stop()
    lost, altered = _look(node, template, senders)
    assert node.stop() == 0
    return Outcome(kills, sum(len(sender.acknowledged) for sender in senders), lost, altered)


def _look(
    node: NodeProcess, template: Load, senders: Sequence[_Sender]
) -> tuple[list[str], list[str]]:
    """Return the instances that are lost, and those that are not what was sent."""
    node.stop()
    node.start()  # a clean start: the whole log is in the ledger then
    store, ledger = LocalStore(node.data), node.ledger()
    lost, altered = [], []
    for number, sender in enumerate(senders):
        kept = {i.sop_instance_uid: i for i in ledger.studies.instances(study_uid(number))}
        for instance_number in sender.acknowledged:
            uid = sop_uid(number, instance_number)
            if uid not in kept:
                lost.append(uid)
                continue
            file = store.file(kept[uid].path)
            sent = numbered(template, number, instance_number)
            if not file.exists() or not file.read_bytes().endswith(sent):
                altered.append(uid)
    ledger.close()
    return lost, altered


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    parser.add_argument("--load", default="mr", help="mr, ct, jpeg-ls or jpeg-2000")
    options = parser.parse_args()
    print(f"seed {options.seed}")
    with tempfile.TemporaryDirectory(prefix="bench-loss-") as folder:
        outcome = run(Path(folder), options.kills, options.seed, options.load)
    print(
        f"{outcome.kills} kills, {outcome.acknowledged} acknowledged, {len(outcome.lost)} lost, "
        f"{len(outcome.altered)} altered"
    )
    return 1 if outcome.lost or outcome.altered else 0


if __name__ == "__main__":
    sys.exit(main())
