"""The verdict on a disk: tables of facts and figures, and what is said of them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dicom_node.store.diskbench import DiskFigures, Latency, Rate
from dicom_node.store.diskfacts import BlockDevice, DiskFacts, Mount
from dicom_node.store.diskverdict import Judgement, about, duration, judge, meaning

TRUE, SUSPICIOUS, LIES, NOT_DURABLE = Judgement


def latency(method: str, p50_s: float) -> Latency:
    return Latency(method, 1000, p50_s, 2 * p50_s, 10 * p50_s)


def figures(
    synced_s: float, direct_s: float = 60e-6, unsynced_s: float = 2e-6, o_direct: bool = True
) -> DiskFigures:
    """What a disk with such an overwrite would show; a record takes as long."""
    records = tuple(
        Rate(what, size, gathered, gathered / synced_s, size * gathered / synced_s)
        for what, size in (("MR", 36 * 1024), ("CT", 528 * 1024))
        for gathered in (1, 4, 16)
    )
    files = tuple(Rate(what, 1, 1, 1 / (3 * synced_s), 1.0) for what in ("MR", "CT"))
    return DiskFigures(
        unsynced=latency("write", unsynced_s),
        direct=latency("O_DIRECT", direct_s) if o_direct else None,
        direct_synced=latency("O_DIRECT|O_DSYNC", synced_s) if o_direct else None,
        synced=latency("write, fdatasync", synced_s * 1.1),
        segment_bytes=128 * 1024**2,
        records_method="O_DIRECT|O_DSYNC",
        records=records,
        files=files,
        sequential_write=Rate("sequential write", 1, 1, 1.0, 1.0),
        sequential_read=Rate("sequential read", 1, 1, 1.0, 1.0),
    )


TURNING = BlockDevice("sda", True, "write back", "write back", virtual=False)
BATTERY = BlockDevice("sda", True, "write through", "", virtual=False)
DESK_SSD = BlockDevice("nvme0n1", False, "write back", "", virtual=False)
SERVER_SSD = BlockDevice("nvme0n1", False, "write through", "", virtual=False)
VIRTUAL = BlockDevice("vda", True, "write back", "", virtual=True)


def facts(
    *devices: BlockDevice,
    file_system: str = "ext4",
    options: str = "rw,relatime",
    preloads: tuple[str, ...] = (),
) -> DiskFacts:
    mount = Mount("/data", file_system, "/dev/sda1", tuple(options.split(",")), "8:1")
    return DiskFacts("/data", mount, devices, preloads)


FAST, SSD, TURN = figures(100e-6), figures(900e-6), figures(8.3e-3)
NOTHING = figures(2e-6, direct_s=2e-6)
FREE_FLUSH = figures(65e-6)


@pytest.mark.parametrize(
    ("known", "measured", "judgement", "fit", "words"),
    [
        # honest disks
        (facts(TURNING), TURN, TRUE, True, "8.3 ms, 4200 times"),
        (facts(DESK_SSD), SSD, TRUE, True, "something is waited for"),
        (facts(SERVER_SSD), FREE_FLUSH, TRUE, True, "something is waited for"),
        (facts(), SSD, TRUE, True, "does not name the device below"),
        (facts(DESK_SSD, options="rw,data=writeback"), SSD, TRUE, True, "harms nothing"),
        (facts(DESK_SSD, options="rw,barrier=1"), SSD, TRUE, True, "waited for"),
        (facts(DESK_SSD), figures(900e-6, o_direct=False), TRUE, True, "waited for"),
        # what cannot be seen is said, but is no reproach
        (facts(VIRTUAL), FAST, TRUE, True, "vda is a virtual disk"),
        (facts(VIRTUAL), figures(61e-6), TRUE, True, "vda is a virtual disk"),
        (facts(replace(SERVER_SSD, name="loop0")), SSD, TRUE, True, "a file on another"),
        (facts(replace(TURNING, name="loop0")), FAST, TRUE, True, "a file on another"),
        (facts(replace(DESK_SSD, name="loop0")), FREE_FLUSH, TRUE, True, "a file on another"),
        (facts(file_system="zfs"), SSD, TRUE, True, "sync=disabled"),
        # faster than it can turn
        (facts(TURNING), figures(1.9e-3), SUSPICIOUS, True, "less than it needs to turn"),
        (facts(BATTERY), FAST, SUSPICIOUS, True, "battery"),
        (facts(TURNING), figures(2.1e-3), TRUE, True, "waited for"),
        (facts(TURNING, DESK_SSD), SSD, TRUE, True, "waited for"),
        (facts(replace(TURNING, rotational=None)), SSD, TRUE, True, "waited for"),
        # a flush that costs nothing
        (facts(DESK_SSD), FREE_FLUSH, SUSPICIOUS, True, "power-loss protection"),
        (facts(DESK_SSD), FAST, TRUE, True, "waited for"),
        # no sync at all
        (facts(DESK_SSD), NOTHING, LIES, False, "no sync at all"),
        (facts(VIRTUAL), NOTHING, LIES, False, "no sync at all"),
        (facts(DESK_SSD), figures(2e-6, o_direct=False), LIES, False, "no sync at all"),
        (facts(SERVER_SSD), figures(9e-6, direct_s=9e-6, unsynced_s=5e-6), TRUE, True, "9 µs"),
        (facts(SERVER_SSD), figures(20e-6, unsynced_s=18e-6), TRUE, True, "20 µs"),
        # options
        (facts(DESK_SSD, options="rw,nobarrier"), SSD, LIES, False, "nobarrier keeps flushes"),
        (facts(DESK_SSD, options="rw,barrier=0"), SSD, LIES, False, "barrier=0"),
        (facts(VIRTUAL, options="rw,fsync_mode=nobarrier"), SSD, LIES, False, "fsync_mode"),
        (facts(options="rw,nobarrier"), SSD, LIES, False, "nobarrier"),
        (facts(SERVER_SSD, options="rw,nobarrier"), SSD, SUSPICIOUS, True, "it gains nothing"),
        (facts(file_system="overlay", options="rw,volatile"), SSD, LIES, False, "every sync out"),
        # somebody told the kernel that there is no cache
        (
            facts(replace(TURNING, write_cache="write through")),
            TURN,
            LIES,
            False,
            "/sys/block/sda/queue/write_cache",
        ),
        # libraries
        (facts(DESK_SSD, preloads=("libeatmydata.so",)), SSD, LIES, False, "libeatmydata.so is"),
        # folders that are no place for a ledger
        (facts(file_system="nfs4"), SSD, SUSPICIOUS, False, "the ledger may not live there"),
        (facts(file_system="cifs"), SSD, SUSPICIOUS, False, "the ledger may not live there"),
        (facts(file_system="smb3"), SSD, SUSPICIOUS, False, "the ledger may not live there"),
        (facts(file_system="9p"), SSD, SUSPICIOUS, False, "the ledger may not live there"),
        (facts(file_system="ceph"), SSD, SUSPICIOUS, False, "the ledger may not live there"),
        (facts(file_system="fuse.sshfs"), SSD, SUSPICIOUS, False, "/data is on fuse.sshfs"),
        (facts(file_system="overlay"), SSD, SUSPICIOUS, True, "container's own layer"),
        # memory
        (facts(file_system="tmpfs"), NOTHING, NOT_DURABLE, False, "is on tmpfs, which is memory"),
        (facts(file_system="ramfs"), NOTHING, NOT_DURABLE, False, "a power cut takes all of it"),
        (facts(replace(SERVER_SSD, name="zram0")), NOTHING, NOT_DURABLE, False, "zram0"),
    ],
)
def test_the_verdict_and_its_reason(
    known: DiskFacts, measured: DiskFigures, judgement: Judgement, fit: bool, words: str
) -> None:
    verdict = judge(known, measured)
    said = "\n".join(f"{one.says} {one.do}" for one in verdict.findings)
    assert verdict.judgement is judgement, said
    assert verdict.fit is fit
    assert words in said
    assert verdict.findings[0].judgement is judgement
    for finding in verdict.findings:
        assert finding.says.endswith(".")
        assert finding.do or finding.judgement is TRUE


def test_the_worst_of_several_findings_is_the_verdict_and_all_are_told() -> None:
    known = facts(TURNING, options="rw,nobarrier", preloads=("libeatmydata.so",))
    verdict = judge(known, NOTHING)
    assert verdict.judgement is LIES
    judgements = [one.judgement for one in verdict.findings]
    assert judgements == [LIES, LIES, LIES, LIES, SUSPICIOUS]
    assert not any("something is waited for" in one.says for one in verdict.findings)


def test_a_kernel_that_says_nothing_leaves_the_times() -> None:
    assert judge(DiskFacts("/data", None, (), ()), SSD).judgement is TRUE
    assert judge(DiskFacts("/data", None, (), ()), NOTHING).judgement is LIES


def test_what_one_association_can_bring_is_bound_by_the_sync() -> None:
    alone, rates, files = meaning(TURN)
    assert "A sync takes 8.3 ms" in alone
    assert "cannot exceed 120 instances a second" in alone
    assert "about 120 MR or 120 CT instances a second from one association" in rates
    assert "about 1900 or 1900 from 16 at once" in rates
    assert "about 40 or 40" in files


def test_a_disk_that_somebody_else_used_meanwhile_is_measured_again() -> None:
    disturbed = replace(FAST, records=figures(1.2e-3).records)
    *_, last = meaning(disturbed)
    assert last.startswith("A record took 1.2 ms on the average: something else used the disk")
    assert len(meaning(replace(FAST, records=figures(290e-6).records))) == len(meaning(FAST)) == 3


def test_a_record_that_needs_no_turn_raises_the_bound() -> None:
    quicker = replace(TURN, records=figures(2e-3).records)
    assert "A sync takes 2 ms" in meaning(quicker)[0]


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(1.234, "1.23 s"), (0.0083, "8.3 ms"), (93e-6, "93 µs"), (1.5e-6, "1.5 µs"), (12.0, "12 s")],
)
def test_durations_are_said_in_their_unit(seconds: float, said: str) -> None:
    assert duration(seconds) == said


@pytest.mark.parametrize(
    ("number", "said"), [(5618.2, "5600"), (93.4, "93"), (0.7249, "0.72"), (123456.0, "120000")]
)
def test_rates_are_said_with_two_digits(number: float, said: str) -> None:
    assert about(number) == said
