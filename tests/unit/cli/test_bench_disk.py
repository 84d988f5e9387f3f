"""`dicom-node bench-disk`: what it prints, how it ends, and that it leaves nothing behind."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from dicom_node.cli.app import app
from dicom_node.cli.bench_disk import bench_disk
from tests.node_process import wait_until
from tests.unit.store.bench_disks import ScriptedDisk

STEP_S = 0.001


def call(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["bench-disk", *map(str, arguments)], env={"COLUMNS": "400"})


def test_json_has_facts_figures_the_verdict_and_what_they_mean(tmp_path: Path) -> None:
    result = call(tmp_path, "--quick", "--json")
    document = json.loads(result.stdout)
    assert result.exit_code == (0 if document["verdict"]["fit"] else 1)
    assert document["facts"]["folder"] == str(tmp_path.resolve())
    assert document["figures"]["synced"]["p50_s"] > 0
    assert len(document["figures"]["records"]) == 6
    assert document["verdict"]["findings"][0]["says"]
    assert "one association" in document["meaning"][0]
    assert list(tmp_path.iterdir()) == []


def test_tables_show_every_figure_and_the_verdict(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fit = bench_disk(tmp_path, as_json=False, step_s=STEP_S)
    shown = capsys.readouterr().out
    lines = shown.splitlines()
    assert lines[0].startswith(f"{tmp_path.resolve()}: ")
    for words in (
        ["write, fdatasync", "s"],  # µs; ms on a busy disk
        ["MR", "36 KB", "a record"],
        ["MR", "36 KB", "records, 16 a write"],
        ["CT", "528 KB", "records, 4 a write"],
        ["CT", "528 KB", "a file, renamed, folder synced"],
        ["one after the other", "MB/s"],
    ):
        assert any(all(word in line for word in words) for line in lines), words
    assert re.search(r"^Verdict: (a true sync|suspicious|lies|not durable by nature)$", shown, re.M)
    assert ("No node's data folder may be here" in shown) is not fit


def test_a_disk_that_does_not_sync_is_said_to_lie(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    class LyingDisk(ScriptedDisk):
        """Takes every flag and every sync, and keeps all in the page cache."""

        def open(self, file: Path, flags: int) -> int:
            return super().open(file, flags & ~(os.O_DIRECT | os.O_DSYNC))

    disk = LyingDisk(sync_s=0.0)
    assert not bench_disk(tmp_path, as_json=False, step_s=STEP_S, disk=disk, clock=disk.clock)
    shown = capsys.readouterr().out
    if "is memory" not in shown:  # of a temporary folder in memory there is worse to say
        assert "Verdict: lies" in shown
        assert "that is no sync at all" in shown


def test_without_o_direct_that_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    disk = ScriptedDisk(takes_direct=False)
    bench_disk(tmp_path, as_json=False, step_s=STEP_S, disk=disk, clock=disk.clock)
    shown = capsys.readouterr().out
    assert "O_DIRECT is refused here, so each write is followed by an fdatasync" in shown
    assert "O_DSYNC" not in shown


def test_a_folder_that_is_not_there_is_a_mistake_on_the_command_line(tmp_path: Path) -> None:
    result = call(tmp_path / "missing")
    assert result.exit_code == 2
    assert "does not exist" in result.output


def test_a_folder_that_cannot_be_written_is_said_with_what_to_do() -> None:
    result = call("/proc")
    assert result.exit_code == 1
    assert "/proc" in result.output
    assert "-> " in result.output
    assert "Traceback" not in result.output


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_measurement_leaves_nothing_behind(
    number: signal.Signals, tmp_path: Path
) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "dicom_node", "bench-disk", str(tmp_path)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        # A shell that runs the tests in the background lets its children ignore Ctrl-C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    try:
        wait_until(lambda: any(tmp_path.glob("*/segment")), what="the measurement")
        process.send_signal(number)
        _, told = process.communicate(timeout=30)
    finally:
        process.kill()
        process.wait()
    assert process.returncode not in (0, None)
    assert "Traceback" not in told
    assert list(tmp_path.iterdir()) == []


def test_signals_mean_what_they_meant_before_it_was_measured(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGTERM)
    disk = ScriptedDisk()
    bench_disk(tmp_path, as_json=True, step_s=STEP_S, disk=disk, clock=disk.clock)
    assert signal.getsignal(signal.SIGTERM) is before
