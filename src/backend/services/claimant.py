"""Names for processes that hold items, by which others on the same machine see whether one is gone.

A lease ends by itself; the name only saves the wait for it after a crash. It is certain where boot,
process namespace, number and start time are told (Linux); elsewhere nobody is taken for gone.
"""

from __future__ import annotations

import os
import socket
from pathlib import Path

PROC = Path("/proc")


def claimant_name(proc: Path = PROC) -> str:
    """Return a name for this process that no other has had."""
    pid = os.getpid()
    place, began = _place(proc), _began(proc, pid)
    if place is None or began is None:
        return f"{socket.gethostname()[:40]}/{pid}/{os.urandom(6).hex()}"
    return f"{place}/{pid}/{began}"


def is_gone(name: str, proc: Path = PROC) -> bool:
    """Tell whether a process has certainly ended."""
    parts = name.split("/")
    if len(parts) != 3 or parts[0] != _place(proc) or not parts[1].isdigit():
        return False
    return _began(proc, int(parts[1])) != parts[2]


def _place(proc: Path) -> str | None:
    """Return where process numbers mean the same: this boot, and this namespace."""
    try:
        boot = (proc / "sys/kernel/random/boot_id").read_text("ascii").strip()
        namespace = (proc / "self/ns/pid").readlink().name
    except OSError:
        return None
    return f"{boot}:{namespace.removeprefix('pid:[').removesuffix(']')}"


def _began(proc: Path, pid: int) -> str | None:
    """Return when a process began, in clock ticks since the boot; `None` where there is none."""
    try:
        status = (proc / str(pid) / "stat").read_text("ascii", errors="replace")
    except OSError:
        return None
    fields = status.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else fields[19]
