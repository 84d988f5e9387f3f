"""What the child processes of the tests do; imports as little as can be, so that they start fast.

As a program it is a parent: it starts one child, prints the child's process ID, and waits.
"""

from __future__ import annotations

import os
import sys
import threading

from dicom_node.executor.child import Child, ChildEvents, ChildLink
from dicom_node.logs import configure_logs


def echo(link: ChildLink) -> None:
    """Say who we are, then do what we are told until we are told to stop."""
    link.send("pid", os.getpid())
    while (message := link.receive())[0] != "stop":
        if message[0] == "exit":
            os._exit(message[1])
        if message[0] == "raise":
            raise RuntimeError(message[1])
        link.send("echo", *message)


def deaf(link: ChildLink) -> None:
    """Say who we are and listen to nothing more."""
    link.send("pid", os.getpid())
    threading.Event().wait()


def busy(link: ChildLink, seconds: float) -> None:
    """Say nothing for a while; the heart beats on a thread of its own."""
    link.send("pid", os.getpid())
    threading.Event().wait(seconds)
    link.send("done", os.getpid())
    link.receive()


def argument(link: ChildLink, value: str) -> None:
    link.send("argument", value)
    link.receive()


def main() -> None:
    configure_logs("error")  # standard output is ours

    def heard(message: tuple[object, ...]) -> None:
        if message[0] == "pid":
            print(message[1], flush=True)

    Child("grandchild", echo, (), ChildEvents(heard, lambda _: None)).start()
    sys.stdin.read()


if __name__ == "__main__":
    main()
