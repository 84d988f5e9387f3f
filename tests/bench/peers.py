"""The peers: the receivers that hospitals and researchers have, set up as well as they can be."""

from __future__ import annotations

import json
import sys

from tests.bench.receivers import Receiver, count_rows, program

_PDU = "131072"


class Storescp(Receiver):
    """F: DCMTK's receiver, a process an association; parses, writes, syncs nothing."""

    title = "storescp --fork"
    preserving: tuple[str, ...] = ()

    def command(self) -> list[str]:
        (self.folder / "instances").mkdir()
        options = ["--fork", *self.preserving, "-pdu", _PDU, "+xa", "-od"]
        command = [program("storescp"), *options, str(self.folder / "instances")]
        if self.tls:
            authority, holder = self.tls
            command += ["+tls", str(holder.key), str(holder.certificate)]
            command += ["+cf", str(authority.certificate)]
        return [*command, str(self.port)]

    def receiving(self) -> list[int]:
        """Return the children; they share most of their memory with their parent."""
        return self.processes()[1:]

    def wait_recorded(self, instances: int) -> float:
        # It waits for its children, and only then their CPU time is known to the tick, when the
        # next connection comes.
        if not self.tls:
            self.listens()
        return 0.0

    def stored(self) -> int:
        return sum(1 for _ in (self.folder / "instances").iterdir())


class PreservingStorescp(Storescp):
    """B: the same, writing the bytes as they came: the toughest peer."""

    title = "storescp --fork +B"
    preserving = ("+B",)


class Orthanc(Receiver):
    """O: tuned; syncs the bytes of each instance, not its name."""

    title = "Orthanc, tuned"

    def command(self) -> list[str]:
        config = self.folder / "orthanc.json"
        settings = {
            "StorageDirectory": str(self.folder),
            "IndexDirectory": str(self.folder),
            "HttpServerEnabled": False,
            "DicomPort": self.port,
            "DicomAet": self.called,
            "DicomCheckCalledAet": False,
            "DicomAlwaysAllowStore": True,
            "DicomThreadsCount": 16,
            "MaximumPduLength": int(_PDU),
            "AcceptedTransferSyntaxes": ["1.2.840.10008.1.*"],
            "UnknownSopClassAccepted": True,
            "StoreMD5ForAttachments": False,
            "SyncStorageArea": True,
        }
        config.write_text(json.dumps(settings))
        return [program("Orthanc"), str(config)]

    def stored(self) -> int:
        # 4 is an instance (Orthanc's enumeration ResourceType)
        query = "SELECT count(*) FROM Resources WHERE resourceType = 4"
        return count_rows(self.folder / "index", query)


class Pynetdicom(Receiver):
    """P: pynetdicom with the handler of its documentation; syncs nothing."""

    title = "pynetdicom"

    def command(self) -> list[str]:
        (self.folder / "instances").mkdir()
        module = "tests.bench.pynetdicom_receiver"
        return [sys.executable, "-m", module, str(self.port), str(self.folder / "instances")]

    def stored(self) -> int:
        return sum(1 for _ in (self.folder / "instances").iterdir())


class Dropping(Receiver):
    """D: answers success and keeps nothing: how fast the sender could be."""

    title = "drops everything"

    def command(self) -> list[str]:
        return [sys.executable, "-m", "tests.bench.dropping_receiver", str(self.port)]
