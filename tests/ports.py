"""Ports of 127.0.0.1 for servers that must be told one."""

from __future__ import annotations

import random
import socket

_FROM, _BELOW = 20_000, 32_768
"""Below those that the system gives to whoever connects (ip_local_port_range): what is free now is
not taken by somebody's connection a moment later."""

_draw = random.SystemRandom()


def free_port() -> int:
    """Return a port at which nobody listens."""
    while True:
        port = _draw.randrange(_FROM, _BELOW)
        try:
            socket.create_server(("127.0.0.1", port)).close()
        except OSError:
            continue
        return port
