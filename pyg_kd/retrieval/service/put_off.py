"""Ending a listening socket without losing a connection."""

from __future__ import annotations

import ctypes
import socket
import struct
import sys

#: Of Linux; Python has no name for it.
SO_ATTACH_FILTER = 26


def put_off(listener: socket.socket) -> None:
    """Let the kernel accept nothing more for a listening socket, but keep what it has accepted.

    A client that connects is not heard, tries again a second later, and is refused then. Without
    this, whoever came between the last look and the closing of the socket would be reset. It holds
    for all processes that have the socket, and for good: only who ends the service may do it.
    """
    if sys.platform != "linux":
        return
    nothing = ctypes.create_string_buffer(struct.pack("HBBI", 6, 0, 0, 0))  # BPF: return 0
    program = struct.pack("HP", 1, ctypes.addressof(nothing))
    listener.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, program)
