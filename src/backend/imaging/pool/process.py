"""The parent's handle on one worker process."""

from __future__ import annotations

import dataclasses
import json
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from multiprocessing.connection import Connection

from backend.config import child_environment, inherited
from backend.errors import DeviceLost
from backend.imaging.devices import Device
from backend.imaging.pool.messages import Order, Reply
from backend.imaging.types import EngineContext

QUIET = {"TRANSFORMERS_VERBOSITY": "error"}
"""Libraries in a worker share the terminal with progress bars, and have nothing to say there."""

_GRACE_S = 1.0
"""How long a worker that hung up may take to end by itself."""

_STUCK_S = 5
"""How long the middle of a message may take; a worker that was stopped would hold up all others."""


class WorkerProcess:
    """A spawned, pinned, warm process. Not thread-safe: the supervisor's thread owns it."""

    def __init__(self, device: Device, *, cpu_threads: int) -> None:
        self.device = device
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
                [
                    *(sys.executable, "-m", "backend.imaging.pool.worker", str(theirs.fileno())),
                    json.dumps(dataclasses.asdict(_context(device, cpu_threads))),
                ],
                pass_fds=[theirs.fileno()],
                env=child_environment({**QUIET, **pinned(device, cpu_threads)}),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                start_new_session=True,
            )
        for option in (socket.SO_SNDTIMEO, socket.SO_RCVTIMEO):
            ours.setsockopt(socket.SOL_SOCKET, option, struct.pack("ll", _STUCK_S, 0))
        self._connection: Connection[Order, Reply] = Connection(ours.detach())

    @property
    def pid(self) -> int:
        """The worker's process id."""
        return self._process.pid

    def fileno(self) -> int:
        """Return the socket's, for a selector."""
        return self._connection.fileno()

    def send(self, order: Order) -> None:
        """Hand an order over; the worker reads while it renders, so this does not wait for it.

        Raises:
            OSError: the worker is gone.
        """
        self._connection.send(order)

    def received(self) -> Iterator[Reply]:
        """Return what has come by now.

        Raises:
            EOFError: the worker is gone, and so is all that it said.
            OSError: likewise.
        """
        while self._connection.poll():
            yield self._connection.recv()

    def kill(self) -> None:
        """End the worker now; safe from any thread and more than once."""
        self._process.kill()
        self._process.wait()
        self._connection.close()

    def explain(self, when: str) -> DeviceLost:
        """End the worker and say how it was lost."""
        try:
            code = self._process.wait(_GRACE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait()
        self._connection.close()
        how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        return DeviceLost(
            f"the worker of {self.device.name} was lost {when} ({how}).",
            {"device": self.device.name, "exit_code": code},
        )


def pinned(device: Device, cpu_threads: int) -> dict[str, str]:
    """Return the environment that shows a process its one device and no other."""
    if device.kind == "cpu":
        threads = str(cpu_threads)
        return {
            "CUDA_VISIBLE_DEVICES": "",
            "HIP_VISIBLE_DEVICES": "",
            "OMP_NUM_THREADS": threads,
            "MKL_NUM_THREADS": threads,
        }
    seen = inherited("CUDA_VISIBLE_DEVICES") or inherited("HIP_VISIBLE_DEVICES")
    cards = seen.split(",") if seen else []
    card = cards[device.device_id] if device.device_id < len(cards) else str(device.device_id)
    return {"CUDA_VISIBLE_DEVICES": card, "HIP_VISIBLE_DEVICES": card}


def _context(device: Device, cpu_threads: int) -> EngineContext:
    return EngineContext(
        device_id=device.device_id,
        device=device.name,
        torch_device="cpu" if device.kind == "cpu" else "cuda:0",
        cpu_threads=cpu_threads,
    )
