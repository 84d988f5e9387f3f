"""A forwarder with originals that are due, for tests."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import gmtime
from typing import Any

from pydicom.dataset import Dataset

from dicom_node.coerce.profile import Profile
from dicom_node.config.settings import Config, DeliverSettings, NodeSettings, Peer
from dicom_node.deliver.copies import Copies
from dicom_node.deliver.dicom_archive import dicom_archives
from dicom_node.deliver.forwarder import Forwarder
from dicom_node.deliver.originals import read_original
from dicom_node.deliver.outlets import Outlets
from dicom_node.deliver.own import Own
from dicom_node.deliver.prover import Prover
from dicom_node.ledger.ledger import Ledger
from dicom_node.lifecycle import DeliveryState
from dicom_node.model import Forward, ForwardTask, Instance, Priority
from dicom_node.store.local import LocalStore
from dicom_node.uid import random_uid
from tests.factories import make_instance, write
from tests.unit.ledger import rows
from tests.unit.ledger.rows import STUDY, HandClock, an_instance
from tests.unit.route.made import key_of


def own_files(store: LocalStore) -> Own:
    """Return our side of a comparison, where no profile changes anything."""
    return Own(store, Copies(Ledger("sqlite://"), store, {}, b""))


@dataclass
class Forwarding:
    """A forwarder, a store and a ledger; the archive is at `port` or `stow_url`, or nowhere."""

    folder: Path
    port: int = 0
    profiles: Mapping[str, Profile] = field(default_factory=dict)
    stow_url: str = ""
    peer: Mapping[str, Any] = field(default_factory=dict)
    """Of the archive, where it differs."""
    breaker_failures: int = 1000
    associations: int = 1

    def __post_init__(self) -> None:
        self.ledger: Ledger = rows.new_ledger(self.folder)
        self.store = LocalStore(self.folder / "data")
        self.clock = HandClock()
        self.instances: list[Instance] = []
        peers = {}
        if self.port:
            peers["archive"] = Peer(
                ae_title="ARCHIVE",
                host="127.0.0.1",
                port=self.port,
                associations=self.associations,
                **self.peer,
            )
        if self.stow_url:
            peers["archive"] = Peer(ae_title="ARCHIVE", stow_url=self.stow_url)
        config = Config(
            node=NodeSettings(ae_title="DICOM_NODE"),
            deliver=DeliverSettings(
                timeout_s=2,
                retry_first_s=10,
                give_up_after_h=1,
                jitter=0,
                breaker_failures=self.breaker_failures,
            ),
            peers=peers,
        )
        copies = Copies(self.ledger, self.store, self.profiles, b"secret of the tests")
        archives = dicom_archives(config, self.store)
        outlets = Outlets(config, self.ledger, archives, self.clock, gmtime)
        self.copies = copies
        parts = (config, self.ledger, archives)
        self.forwarder = Forwarder(*parts, copies, outlets, self.clock)
        is_same = Own(self.store, copies).is_same
        self.prover = Prover(*parts, outlets, is_same, self.clock, random_uid)

    def add(self, dataset: Dataset) -> Instance:
        """Lay an instance into the store and note it."""
        path = f"instances/{len(self.instances)}.dcm"
        content = write(dataset, self.store.path(path)).read_bytes()
        instance = an_instance(
            sop_instance_uid=str(dataset.SOPInstanceUID),
            sop_class_uid=str(dataset.SOPClassUID),
            transfer_syntax_uid=str(dataset.file_meta.TransferSyntaxUID),
            path=path,
            digest=hashlib.sha256(content).hexdigest(),
        )
        self.ledger.studies.instance_stored(instance)
        self.instances.append(instance)
        return instance

    def add_some(self, count: int) -> None:
        for number in range(1, count + 1):
            self.add(make_instance(number=number))

    def choose(
        self,
        instances: Sequence[Instance] | None = None,
        priority: Priority = Priority.ROUTINE,
        profile: str = "",
    ) -> None:
        """Let a rule forward instances; all unless said."""
        keys = tuple(key_of(one) for one in (self.instances if instances is None else instances))
        planned = Forward("archive", profile, priority, "all", keys)
        self.ledger.routing.forward_at_once(STUDY, [planned], self.clock())

    def turn(self) -> bool:
        return self.forwarder.turn("archive")

    def run(self) -> None:
        """Take turns as the node does, until nothing is due."""
        while self.turn():
            pass

    def wait_for_backoff(self) -> None:
        self.clock.now += 4000

    @property
    def task(self) -> ForwardTask:
        [task] = self.ledger.forwards.of_study(STUDY)
        return task

    def state(self) -> DeliveryState:
        return self.task.state

    @property
    def progress(self) -> tuple[int, int, int]:
        return self.ledger.forwards.progress(self.task.forward_id)

    def digests(self) -> dict[str, str]:
        """Return the SHA-256 of each data set as it lies in the store."""
        return {
            one.sop_instance_uid: hashlib.sha256(
                read_original(self.store, one).content.read()
            ).hexdigest()
            for one in self.instances
        }
