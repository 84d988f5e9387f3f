"""`dicom-node bench-disk`: what a disk gives, and whether it lies about fsync."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from types import FrameType

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from dicom_node.cli.console import make_console, make_table
from dicom_node.store.diskbench import BenchDisk, DiskFigures, measure
from dicom_node.store.diskfacts import DiskFacts, find_facts
from dicom_node.store.diskverdict import Judgement, Verdict, about, duration, judge, meaning

STEP_S = 0.75
STEP_QUICK_S = 0.1
_STYLES = {Judgement.TRUE_SYNC: "green", Judgement.SUSPICIOUS: "yellow"}


def bench_disk(
    folder: Path,
    as_json: bool,
    step_s: float = STEP_S,
    disk: BenchDisk | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> bool:
    """Measure and print; return whether a node's data folder may be there.

    Raises
    ------
    StorageError
        If the folder has no room or cannot be written.
    """
    with _ended_cleanly():
        figures = _measure(folder, step_s, disk, clock)
    facts = find_facts(folder, os.environ)
    verdict = judge(facts, figures)
    console = make_console(wraps=not as_json)
    if as_json:
        document = {
            "facts": asdict(facts),
            "figures": asdict(figures),
            "verdict": asdict(verdict),
            "meaning": meaning(figures),
        }
        console.print(json.dumps(document))
    else:
        _print(console, facts, figures, verdict)
    return verdict.fit


@contextmanager
def _ended_cleanly() -> Iterator[None]:
    """Let SIGTERM and a closed terminal end us as Ctrl-C does: with nothing left behind."""

    def end(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _measure(
    folder: Path, step_s: float, disk: BenchDisk | None, clock: Callable[[], float]
) -> DiskFigures:
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=make_console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=None)
        return measure(
            folder,
            step_s,
            clock,
            lambda step: progress.update(task, description=step),
            disk,
        )


def _print(console: Console, facts: DiskFacts, figures: DiskFigures, verdict: Verdict) -> None:
    _print_facts(console, facts)
    overwrites = make_table("4 KB overwritten by", "median", "99 of 100 within", "slowest", "times")
    for one in (figures.unsynced, figures.direct, figures.direct_synced, figures.synced):
        if one:
            spread = (duration(s) for s in (one.p50_s, one.p99_s, one.max_s))
            overwrites.add_row(one.method, *spread, str(one.count))
    console.print(overwrites)
    console.print(
        f"Receive log: records by {figures.records_method} into a segment of "
        f"{figures.segment_bytes / 1e6:.0f} MB; beside it, a file for each instance"
    )
    if figures.direct_synced is None:
        console.print("O_DIRECT is refused here, so each write is followed by an fdatasync")
    kept = make_table("instance", "size", "kept as", "instances/s", "MB/s")
    for rate in figures.records:
        shared = "a record" if rate.gathered == 1 else f"records, {rate.gathered} a write"
        kept.add_row(rate.what, *_row(rate.piece_bytes, shared, rate.pieces_per_s))
    for rate in figures.files:
        words = "a file, renamed, folder synced"
        kept.add_row(rate.what, *_row(rate.piece_bytes, words, rate.pieces_per_s))
    console.print(kept)
    write, read = figures.sequential_write, figures.sequential_read
    console.print(
        f"one after the other, {write.piece_bytes // 1024**2} MB a piece: "
        f"write {write.bytes_per_s / 1e6:.0f} MB/s, read {read.bytes_per_s / 1e6:.0f} MB/s"
    )
    if verdict.fit:
        for sentence in meaning(figures):
            console.print(sentence)
    console.print()
    console.print(f"Verdict: {verdict.judgement}", style=_STYLES.get(verdict.judgement, "red"))
    for finding in verdict.findings:
        console.print(finding.says)
        if finding.do:
            console.print(f"-> {finding.do}")
    if not verdict.fit:
        console.print("No node's data folder may be here", style="red")


def _print_facts(console: Console, facts: DiskFacts) -> None:
    mount = facts.mount
    if mount is None:
        console.print(f"{facts.folder}: the kernel does not say what file system this is")
        return
    options = ",".join(mount.options)
    console.print(f"{facts.folder}: {mount.file_system} from {mount.source} ({options})")
    turns = {True: "rotates", False: "does not rotate", None: "rotating or not is unknown"}
    for device in facts.devices:
        kind = "virtual" if device.virtual else turns[device.rotational]
        console.print(f"{device.name}: {kind}, cache: {device.write_cache or 'unknown'}")


def _row(piece_bytes: int, kept_as: str, per_s: float) -> tuple[str, ...]:
    size = f"{piece_bytes // 1024} KB"
    return size, kept_as, about(per_s), f"{piece_bytes * per_s / 1e6:.0f}"
