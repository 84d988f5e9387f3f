"""`dicom-node serve`, but with a plug that is pulled at a named boundary."""

from __future__ import annotations

import itertools
import os
import signal
import sys
from pathlib import Path


def kill_at(name: str) -> None:
    """Kill at the passings of the boundary that the environment names.

    KILL_AT is a boundary, KILL_PASSINGS the numbers of its passings, counted over all processes
    and all starts by a file each; KILL_WHAT is `group` for the whole node or `process`.
    """
    wanted = os.environ.get("KILL_AT")
    if not wanted or wanted not in {name, name.split(":")[0]}:
        return
    folder = Path(os.environ["KILL_FOLDER"])
    if str(_passing(folder, wanted)) not in os.environ["KILL_PASSINGS"].split():
        return
    if os.environ["KILL_WHAT"] == "group":
        os.killpg(os.getpgid(0), signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGKILL)


def _passing(folder: Path, name: str) -> int:
    for number in itertools.count(1):
        try:
            (folder / f"passed-{name}-{number}").touch(exist_ok=False)
        except FileExistsError:
            continue
        return number
    raise AssertionError("unreachable")


if __name__ == "__main__":
    # As in `dicom_node.__main__`: each child process imports this module again.
    from dicom_node.cli.serve import serve

    serve(Path(sys.argv[1]), checkpoint=kill_at)
