"""The table: what is measured, on which receivers, and which goal it has."""

from __future__ import annotations

from dataclasses import dataclass, replace

from tests.bench.connections import Associate, Echo, Idle
from tests.bench.endurance import Leak, Silent
from tests.bench.peers import Dropping, Orthanc, PreservingStorescp, Pynetdicom, Storescp
from tests.bench.receivers import Ours
from tests.bench.stores import Store, Storescu
from tests.bench.workbench import Contestant, Probe

_OURS = Contestant("OURS", Ours)
_OURS_NAGLE = Contestant("OURS nagle", Ours, nodelay=False)
_OURS_TLS = Contestant("OURS tls", Ours, tls=True)
_B = Contestant("B", PreservingStorescp)
_B_TLS = Contestant("B tls", PreservingStorescp, tls=True)
_F = Contestant("F", Storescp)
_O = Contestant("O", Orthanc, share=0.2)
_P = Contestant("P", Pynetdicom, share=0.2)
_D = Contestant("D", Dropping)
_TRANSFER_SYNTAXES_OF_DCMTK = 50
"""DCMTK, and Orthanc on it, never answer a request with more of them in a context."""
_EVERYONE = (_OURS, _B, _O, _P)


@dataclass(frozen=True)
class Goal:
    """A bound on a value, or on its ratio to a peer's.

    Parameters
    ----------
    value : str
        A key of the probe's columns.
    sense : str
        ">=" or "<=".
    of : str
        The contestant whose value it is a ratio to; empty for a bound on the value itself.
    subject : str
        Whose value it is.
    """

    value: str
    sense: str
    bound: float
    of: str = ""
    subject: str = "OURS"


@dataclass(frozen=True)
class Row:
    """One thing to measure; `rounds_max` where more rounds teach nothing."""

    name: str
    title: str
    probe: Probe
    contestants: tuple[Contestant, ...]
    goals: tuple[Goal, ...] = ()
    rounds_max: int = 1000


def at_least(value: str, bound: float, of: str = "", subject: str = "OURS") -> Goal:
    return Goal(value, ">=", bound, of, subject)


def at_most(value: str, bound: float, of: str = "", subject: str = "OURS") -> Goal:
    return Goal(value, "<=", bound, of, subject)


_CPU = (at_most("cpu_s_gb", 0.55, "B"), at_most("cpu_s_gb", 0.15, "O"))
_MR_CPU = at_most("cpu_ms_instance", 0.4, "B")

_STORES = (
    Row(
        "ct-1",
        "CT 512x512, 1 association",
        Store("ct", 1, 1200),
        _EVERYONE,
        (at_least("mb_s", 1.0, "B"), at_least("mb_s", 4, "O"), at_least("mb_s", 3, "P"), *_CPU),
    ),
    Row(
        "ct-4",
        "CT 512x512, 4 associations",
        Store("ct", 4, 1200),
        _EVERYONE,
        (at_least("mb_s", 1.1, "B"), at_least("mb_s", 3.5, "O"), at_least("mb_s", 4, "P"), *_CPU),
    ),
    Row(
        "ct-16",
        "CT 512x512, 16 associations",
        Store("ct", 16, 1600),
        _EVERYONE,
        (
            at_least("mb_s", 1.4, "B"),
            at_least("mb_s", 2.5, "O"),
            at_least("mb_s", 4, "P"),
            *_CPU,
            at_most("p99_ms", 1.0, "B"),
            at_most("growth_mb", 40),
        ),
    ),
    Row(
        "ct-long",
        "CT 512x512, 4 associations, 2 GB: more than the log keeps segments ready for",
        Store("ct", 4, 4000),
        (_OURS, _B),
    ),
    Row(
        "mr-1",
        "MR 128x128, 1 association",
        Store("mr", 1, 2000, by_instances=True),
        _EVERYONE,
        (at_least("instances_s", 1.3, "B"), at_least("instances_s", 4, "O"), _MR_CPU),
    ),
    Row(
        "mr-4",
        "MR 128x128, 4 associations",
        Store("mr", 4, 2000, by_instances=True),
        _EVERYONE,
        (at_least("instances_s", 2.0, "B"), at_least("instances_s", 4, "O"), _MR_CPU),
    ),
    Row(
        "enhanced-ct",
        "one enhanced CT of 600 frames, 315 MB",
        Store("enhanced-ct", 1, 1),
        _EVERYONE,
        (at_least("mb_s", 0.8, "B"), at_most("receiving_growth_mb", 16)),
    ),
    Row(
        "jpeg-ls",
        "JPEG-LS CT, 4 associations",
        Store("jpeg-ls", 4, 2000),
        (_OURS, _F),
        (at_least("mb_s", 1.2, "F"),),
    ),
    Row(
        "jpeg-2000",
        "JPEG 2000 CT, 4 associations",
        Store("jpeg-2000", 4, 2000),
        (_OURS, _F),
        (at_least("mb_s", 1.2, "F"),),
    ),
    Row(
        "nagle",
        "CT, 1 association, sent PDU by PDU; the sender's Nagle off and on",
        Store("ct", 1, 400, each_pdu=True),
        (_OURS, _OURS_NAGLE),
        (at_least("mb_s", 0.75, "OURS", "OURS nagle"),),
    ),
    Row(
        "tls",
        "CT, 4 associations, without TLS and with it",
        Store("ct", 4, 800),
        (_OURS, _OURS_TLS, _B_TLS),
        (
            at_least("mb_s", 0.5, "OURS", "OURS tls"),
            at_least("mb_s", 1.0, "B tls", "OURS tls"),
        ),
    ),
    Row("storescu-1", "CT by DCMTK's storescu, 1 association", Storescu(1), (_OURS, _B, _P)),
    Row("storescu-4", "CT by DCMTK's storescu, 4 associations", Storescu(4), (_OURS, _B, _P)),
    Row(
        "storescu-nagle",
        "CT by DCMTK's storescu, 1 association; its Nagle off and on",
        Storescu(1),
        (_OURS, _OURS_NAGLE),
        (at_least("mb_s", 0.75, "OURS", "OURS nagle"),),
    ),
    Row(
        "sender",
        "CT to a receiver that drops them, 1 association: the sender itself",
        Store("ct", 1, 2000),
        (_D,),
        (at_most("sender_cpu_s_gb", 0.5, subject="D"),),
    ),
)

_CONNECTIONS = (
    Row(
        "associations",
        "an association set up and released, 127 storage contexts x 50 transfer syntaxes",
        Associate(200, _TRANSFER_SYNTAXES_OF_DCMTK),
        (_OURS, _B, _O, replace(_P, share=0.1)),
        (at_most("association_ms", 1.0, "B"), at_most("association_ms", 0.1, "P")),
    ),
    Row(
        "associations-all",
        "an association set up and released, 127 storage contexts x every transfer syntax",
        Associate(200, 1000),
        (_OURS, replace(_P, share=0.1)),
        (at_most("association_ms", 0.1, "P"),),
    ),
    Row(
        "echo",
        "C-ECHO on an open association",
        Echo(500),
        _EVERYONE,
        (at_most("echo_ms", 0.3),),
    ),
    Row(
        "idle",
        "16 idle associations, 10 seconds",
        Idle(16, 10.0),
        (_OURS,),
        (at_most("core_percent", 1.0),),
    ),
    Row(
        "silent",
        "1000 silent connections, and a CT stored meanwhile",
        Silent(1000),
        (_OURS,),
        (at_most("growth_mb", 60), at_most("threads_more", 0), at_most("slower", 2)),
    ),
    Row(
        "leak",
        "10,000 associations and 10,000 bare connections come and go",
        Leak(10_000),
        (_OURS,),
        (at_most("growth_mb", 5),),
        rounds_max=1,
    ),
)

ROWS = _STORES + _CONNECTIONS
