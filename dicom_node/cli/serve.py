"""`dicom-node serve`."""

from __future__ import annotations

import signal
import threading
from pathlib import Path
from types import FrameType

from dicom_node.clock import Checkpoint, pass_checkpoint
from dicom_node.config.loading import load_config
from dicom_node.logs import configure_logs
from dicom_node.node import Node
from dicom_node.plan import load_plan


def serve(config_file: Path, checkpoint: Checkpoint = pass_checkpoint) -> None:
    """Run the node until SIGTERM or SIGINT; SIGHUP has it read its rules anew.

    Raises
    ------
    ConfigError
        If it cannot start, or the port cannot be listened on.
    """
    config = load_config(config_file)
    configure_logs(config.node.log_level)
    plan = load_plan(config)
    stop, hung_up = threading.Event(), threading.Event()

    def on_signal(_number: int, _frame: FrameType | None) -> None:
        stop.set()

    def on_hangup(_number: int, _frame: FrameType | None) -> None:
        hung_up.set()

    signal.signal(signal.SIGTERM, on_signal)
    signal.signal(signal.SIGINT, on_signal)
    signal.signal(signal.SIGHUP, on_hangup)
    node = Node(plan, checkpoint=checkpoint, read_plan=lambda: load_plan(load_config(config_file)))
    node.start()
    try:
        node.wait(stop, hung_up)
    finally:
        node.stop()
    if node.failure is not None:
        raise node.failure
