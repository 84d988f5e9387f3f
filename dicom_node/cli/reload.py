"""`dicom-node reload`: have the running node take up changed rules, and say whether it did."""

from __future__ import annotations

import fcntl
import os
import signal
import time
from pathlib import Path
from typing import IO

from dicom_node.cli.console import make_console
from dicom_node.config.loading import load_config
from dicom_node.config.settings import Config
from dicom_node.errors import StudyUnusable
from dicom_node.ledger.ledger import Ledger
from dicom_node.model import Event
from dicom_node.node import RELOAD_REFUSED, RELOADED
from dicom_node.plan import load_plan

_WAIT_S = 30.0
_LOOK_EVERY_S = 0.05


def reload(config_file: Path) -> bool:
    """Check the configuration, tell the node, and print what it made of it.

    Raises
    ------
    ConfigError
        If the configuration has a mistake; the node is not disturbed then.
    StudyUnusable
        If no node runs.
    """
    config = load_config(config_file)
    load_plan(config)
    ledger = Ledger(config.ledger_url)
    ledger.require_current()
    seen = len(_answers(ledger))
    _hang_up(config)
    event = _answer(ledger, seen)
    ledger.close()
    console = make_console(wraps=False)
    if event is None:
        console.print(f"the node did not answer within {_WAIT_S:g} s; see its log", style="red")
        return False
    console.print(event.reason, style=None if event.event == RELOADED else "red")
    return event.event == RELOADED


def _hang_up(config: Config) -> None:
    """Send SIGHUP to the process that holds the lock of the data folder."""
    nobody = StudyUnusable(
        f"no node runs in {config.node.data_dir}", hint="start it: `dicom-node serve`"
    )
    try:
        with (config.node.data_dir / "node.lock").open("r+") as lock:
            if _is_free(lock):  # whoever left its number there is gone; it may be another's now
                raise nobody
            os.kill(int(lock.read()), signal.SIGHUP)
    except (OSError, ValueError) as error:
        raise nobody from error


def _is_free(lock: IO[str]) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _answer(ledger: Ledger, seen: int) -> Event | None:
    give_up_at = time.monotonic() + _WAIT_S
    while time.monotonic() < give_up_at:
        answers = _answers(ledger)
        if len(answers) > seen:
            return answers[-1]
        time.sleep(_LOOK_EVERY_S)
    return None


def _answers(ledger: Ledger) -> list[Event]:
    both = ledger.events.named(RELOADED) + ledger.events.named(RELOAD_REFUSED)
    return sorted(both, key=lambda event: event.at)
