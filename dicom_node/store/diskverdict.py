"""Does this disk keep what it says it has synced? Figures and facts in, sentences out; pure.

Timing alone cannot prove a sync: it can only prove that nothing was waited for, or that less was
waited for than the device needs. So a verdict is the worst of what each rule below finds.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from dicom_node.store.diskbench import GATHERED, DiskFigures, Latency
from dicom_node.store.diskfacts import BlockDevice, DiskFacts


class Judgement(StrEnum):
    """From the best to the worst."""

    TRUE_SYNC = "a true sync"
    SUSPICIOUS = "suspicious"
    LIES = "lies"
    NOT_DURABLE = "not durable by nature"


@dataclass(frozen=True)
class Finding:
    """One thing that speaks for or against the disk."""

    judgement: Judgement
    says: str
    do: str = ""
    forbids: bool = False
    """No data folder may be here, whatever its syncs are worth."""


@dataclass(frozen=True)
class Verdict:
    """The worst finding, and all of them, the worst first."""

    judgement: Judgement
    fit: bool
    """Whether a node's data folder may be here."""
    findings: tuple[Finding, ...]


_IN_MEMORY = frozenset({"tmpfs", "ramfs", "devtmpfs", "rootfs", "hugetlbfs"})
_MEMORY_DEVICES = ("zram", "ram")
_FILE_DEVICES = "loop"
_OVER_NETWORK = frozenset(
    {"nfs", "nfs4", "cifs", "smb", "smb3", "smbfs", "afs", "9p", "virtiofs"}
    | {"ceph", "glusterfs", "lustre", "beegfs", "gpfs"}
)
_LAYERED = frozenset({"overlay", "aufs"})
_NO_FLUSH = frozenset({"nobarrier", "barrier=0", "fsync_mode=nobarrier"})
_NO_SYNC = frozenset({"volatile", "fsync=volatile"})

_SAME_RATIO = 1.5
_NOTHING_S = 15e-6  # the shortest way to any device and back takes longer
_DISTURBED_RATIO = 3
_TURN_S = 2e-3  # half a turn at 15000 a minute; an overwrite in place waits for a whole one


def judge(facts: DiskFacts, figures: DiskFigures) -> Verdict:
    """Return what the disk's syncs are worth, and why."""
    in_memory = list(_memory(facts))
    rules = (_preload, _options, _kernel, _network, _layers, _nothing, _turn, _flush, _unseen)
    findings = in_memory or [one for rule in rules for one in rule(facts, figures)]
    order = list(Judgement)
    worst = max((one.judgement for one in findings), key=order.index, default=Judgement.TRUE_SYNC)
    if worst in (Judgement.TRUE_SYNC, Judgement.SUSPICIOUS):
        findings.append(_waited_for(figures))
    findings.sort(key=lambda one: -order.index(one.judgement))
    bad = (Judgement.LIES, Judgement.NOT_DURABLE)
    fit = not any(one.forbids or one.judgement in bad for one in findings)
    return Verdict(worst, fit, tuple(findings))


def meaning(figures: DiskFigures) -> tuple[str, ...]:
    """Return what the figures mean for a node's rates, as sentences."""
    # In place a disk may wait for a turn that it need not wait for when it goes on to new places.
    alone = min(figures.records, key=lambda rate: rate.piece_bytes * rate.gathered)
    sync_s = min(figures.best_synced.p50_s, 1 / alone.pieces_per_s)
    by = {(rate.what, rate.gathered): about(rate.pieces_per_s) for rate in figures.records}
    files = {rate.what: about(rate.pieces_per_s) for rate in figures.files}
    one, most = min(GATHERED), max(GATHERED)
    sentences = [
        f"A sync takes {duration(sync_s)}: one association, which waits for each answer, cannot "
        f"exceed {about(1 / sync_s)} instances a second, however small they are; more "
        "associations share a sync.",
        f"For this disk that is about {by['MR', one]} MR or {by['CT', one]} CT instances a "
        f"second from one association, about {by['MR', most]} or {by['CT', most]} from {most} at "
        "once; the network and the processor may give less.",
        f"A file for each instance would be about {files['MR']} or {files['CT']}.",
    ]
    if alone.pieces_per_s * sync_s < 1 / _DISTURBED_RATIO:
        sentences.append(
            f"A record took {duration(1 / alone.pieces_per_s)} on the average: something else used "
            "the disk meanwhile, or it is throttled. Measure again while it is idle."
        )
    return tuple(sentences)


def duration(seconds: float) -> str:
    """Say a duration in the unit that suits it: 93 µs, 8.3 ms, 1.2 s."""
    for unit, name in ((1.0, "s"), (1e-3, "ms")):
        if seconds >= unit:
            return f"{seconds / unit:.3g} {name}"
    return f"{seconds / 1e-6:.3g} µs"


def about(number: float) -> str:
    """Say a rate with two digits that count: 5600, 93, 0.72."""
    return f"{float(f'{number:.2g}'):.10g}"


def _memory(facts: DiskFacts) -> Iterator[Finding]:
    mount = facts.mount
    names = [mount.file_system] if mount and mount.file_system in _IN_MEMORY else []
    names += [one.name for one in facts.devices if one.name.startswith(_MEMORY_DEVICES)]
    for name in names:
        yield Finding(
            Judgement.NOT_DURABLE,
            f"{facts.folder} is on {name}, which is memory: a power cut takes all of it.",
            "Set node.data_dir to a folder on a disk.",
        )


def _preload(facts: DiskFacts, figures: DiskFigures) -> Iterator[Finding]:
    if facts.preloads:
        yield Finding(
            Judgement.LIES,
            f"{', '.join(facts.preloads)} is loaded into this process and turns every sync into "
            "nothing.",
            "Take it out of LD_PRELOAD, where the node is started, or out of /etc/ld.so.preload.",
        )


def _options(facts: DiskFacts, figures: DiskFigures) -> Iterator[Finding]:
    options = facts.mount.options if facts.mount else ()
    cached = [one.name for one in facts.devices if one.write_cache != "write through"]
    for option in options:
        if option in _NO_SYNC:
            yield Finding(
                Judgement.LIES,
                f"The mount option {option} leaves every sync out.",
                f"Mount without {option}, or use a folder of another file system.",
            )
        elif option in _NO_FLUSH and (cached or not facts.devices):
            yield Finding(
                Judgement.LIES,
                f"The mount option {option} keeps flushes from the device, and what its cache "
                "holds is lost with the power.",
                f"Mount without {option}.",
            )
        elif option in _NO_FLUSH:
            yield Finding(
                Judgement.SUSPICIOUS,
                f"The mount option {option} keeps flushes from the device; it says that it has "
                "no cache that needs them.",
                f"Mount without {option}: on such a device it gains nothing.",
            )
        elif option == "data=writeback":
            yield Finding(
                Judgement.TRUE_SYNC,
                "The mount option data=writeback harms nothing here: what we answer for is "
                "synced before it gets its name.",
            )


def _kernel(facts: DiskFacts, figures: DiskFigures) -> Iterator[Finding]:
    for one in facts.devices:
        if one.write_cache == "write through" and one.own_cache.startswith("write back"):
            yield Finding(
                Judgement.LIES,
                f"{one.name} says that it has a volatile cache, but the kernel was told that it "
                "has none, and never flushes it.",
                f'Write "write back" to /sys/block/{one.name}/queue/write_cache, and find who '
                "wrote the other at start.",
            )


def _network(facts: DiskFacts, figures: DiskFigures) -> Iterator[Finding]:
    if facts.mount and _over_network(facts):
        yield Finding(
            Judgement.SUSPICIOUS,
            f"{facts.folder} is on {facts.mount.file_system}: another machine or program decides "
            "what a sync is worth there (an NFS export with async keeps nothing), and the ledger "
            "may not live there: its locks and shared memory need a local file system.",
            "Set node.data_dir to a folder on a local disk.",
            forbids=True,
        )


def _layers(facts: DiskFacts, figures: DiskFigures) -> Iterator[Finding]:
    system = facts.mount.file_system if facts.mount else ""
    if system in _LAYERED:
        yield Finding(
            Judgement.SUSPICIOUS,
            f"{facts.folder} is in a container's own layer ({system}): it goes when the "
            "container is removed.",
            "Mount a volume or a folder of the host there, and measure again.",
        )


def _nothing(facts: DiskFacts, figures: DiskFigures) -> Iterator[Finding]:
    unsynced_s = figures.unsynced.p50_s
    for synced in filter(None, (figures.direct_synced, figures.synced)):
        if synced.p50_s < _NOTHING_S and synced.p50_s < _SAME_RATIO * unsynced_s:
            yield Finding(
                Judgement.LIES,
                f"An overwrite by {synced.method} takes {duration(synced.p50_s)}, one that stays "
                f"in the page cache {duration(unsynced_s)}: that is no sync at all.",
                "Find what leaves it out: a preloaded library, a mount option, a sandbox.",
            )


def _turn(facts: DiskFacts, figures: DiskFigures) -> Iterator[Finding]:
    fastest = _fastest(figures)
    if not facts.devices or not all(one.rotational and _is_itself(one) for one in facts.devices):
        return
    if fastest.p50_s < _TURN_S:
        yield Finding(
            Judgement.SUSPICIOUS,
            f"{_names(facts.devices)} rotates, and {duration(fastest.p50_s)} for a synced "
            "overwrite is less than it needs to turn: it answers from a cache.",
            "That is true only with a battery behind the cache: ask the controller for the state "
            "of its battery, else switch the cache off (hdparm -W0) and measure again.",
        )


def _flush(facts: DiskFacts, figures: DiskFigures) -> Iterator[Finding]:
    """A flash disk with a cache that must be flushed, whose flush costs nothing."""
    cached = [
        one
        for one in facts.devices
        if one.write_cache == "write back" and one.rotational is False and _is_itself(one)
    ]
    direct, synced = figures.direct, figures.direct_synced
    if cached and direct and synced and synced.p50_s < _SAME_RATIO * direct.p50_s:
        yield Finding(
            Judgement.SUSPICIOUS,
            f"{_names(cached)} has a cache that must be flushed, yet a synced overwrite takes "
            f"{duration(synced.p50_s)} and one without sync {duration(direct.p50_s)}.",
            "Look into its data sheet: with power-loss protection that is as it should be, "
            "without it the disk ignores flushes.",
        )


def _unseen(facts: DiskFacts, figures: DiskFigures) -> Iterator[Finding]:
    """What nobody can see from here: no reproach, but the operator should know."""
    virtual = [one for one in facts.devices if one.virtual]
    if virtual:
        yield Finding(
            Judgement.TRUE_SYNC,
            f"{_names(virtual)} is a virtual disk: whether its host keeps what it answers, and "
            "whether it rotates, cannot be seen from inside.",
            "Ask who runs the host that its caching mode is neither unsafe nor volatile.",
        )
    for one in facts.devices:
        if one.name.startswith(_FILE_DEVICES):
            yield Finding(
                Judgement.TRUE_SYNC,
                f"{one.name} is a file on another file system.",
                "Measure the folder that this file lies in, too.",
            )
    if facts.mount and facts.mount.file_system == "zfs":
        yield Finding(
            Judgement.TRUE_SYNC,
            "ZFS with sync=disabled would keep nothing, which does not show among mount options.",
            f"zfs get sync {facts.mount.source}",
        )
    elif not facts.devices and not _over_network(facts):
        yield Finding(
            Judgement.TRUE_SYNC,
            "The kernel does not name the device below: only the times speak for it.",
        )


def _waited_for(figures: DiskFigures) -> Finding:
    fastest = _fastest(figures)
    ratio = fastest.p50_s / max(figures.unsynced.p50_s, 1e-9)
    return Finding(
        Judgement.TRUE_SYNC,
        f"A synced overwrite takes {duration(fastest.p50_s)}, {about(ratio)} times one that stays "
        f"in the page cache ({duration(figures.unsynced.p50_s)}): something is waited for.",
    )


def _fastest(figures: DiskFigures) -> Latency:
    return min(
        filter(None, (figures.direct_synced, figures.synced)), key=lambda latency: latency.p50_s
    )


def _is_itself(device: BlockDevice) -> bool:
    """Return whether what the kernel says of a device is said of the hardware."""
    return not device.virtual and not device.name.startswith(_FILE_DEVICES)


def _over_network(facts: DiskFacts) -> bool:
    system = facts.mount.file_system if facts.mount else ""
    return system in _OVER_NETWORK or system.startswith("fuse")


def _names(devices: Sequence[BlockDevice]) -> str:
    return ", ".join(one.name for one in devices)
