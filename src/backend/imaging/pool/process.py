"""The parent's handle on one worker process."""

from __future__ import annotations

import dataclasses
import json
import signal
import socket
import subprocess
import sys
from multiprocessing.connection import Connection

from backend.config import child_environment, inherited
from backend.errors import DeviceLost, from_wire
from backend.imaging.devices import Device
from backend.imaging.pool.messages import Done, Failed, Ready, Render, Reply
from backend.imaging.types import EngineContext, GeneratedImage

_GRACE_S = 1.0


class WorkerProcess:
    """A spawned, pinned, warm process that makes one image at a time.

    Not thread-safe, but for `kill`: the device's own thread starts it and speaks to it.
    """

    def __init__(self, device: Device, *, cpu_threads: int, start_timeout_s: float) -> None:
        self.device = device
        self.rss_bytes = 0
        self._start_timeout_s = start_timeout_s
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
                [
                    *(sys.executable, "-m", "backend.imaging.pool.worker", str(theirs.fileno())),
                    json.dumps(dataclasses.asdict(_context(device, cpu_threads))),
                ],
                pass_fds=[theirs.fileno()],
                env=child_environment(pinned(device, cpu_threads)),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                start_new_session=True,
            )
        self._connection: Connection[Render, Reply] = Connection(ours.detach())

    @property
    def pid(self) -> int:
        """The worker's process id."""
        return self._process.pid

    @property
    def is_alive(self) -> bool:
        """Whether the process still runs."""
        return self._process.poll() is None

    def wait_until_ready(self) -> None:
        """Wait for the worker's first word.

        Raises:
            DeviceLost: it died, or was not up in time; it is dead then.
        """
        try:
            if not self._connection.poll(self._start_timeout_s):
                self.kill()
                raise DeviceLost(
                    f"the worker of {self.device.name} did not start within "
                    f"{self._start_timeout_s:g} s; raise GATOR_WORKER_START_TIMEOUT_S if the "
                    "machine is slow.",
                    {"device": self.device.name},
                )
            reply = self._connection.recv()
        except (EOFError, OSError) as exc:
            raise self._lost("while starting") from exc
        if not isinstance(reply, Ready):
            raise self._lost(f"with an unexpected {type(reply).__name__}")

    def render(self, task: Render) -> GeneratedImage:
        """Have one image made; blocks until it is there.

        Raises:
            DeviceLost: the worker died over it; start another.
            GatorError: whatever the engine reported; the worker goes on.
        """
        try:
            self._connection.send(task)
            reply = self._connection.recv()
        except (EOFError, OSError) as exc:
            raise self._lost("while rendering") from exc
        if isinstance(reply, Failed):
            raise from_wire(reply.code, reply.message, reply.details)
        if not isinstance(reply, Done):
            raise self._lost(f"with an unexpected {type(reply).__name__}")
        self.rss_bytes = reply.rss_bytes
        return reply.image

    def kill(self) -> None:
        """End the worker now; safe from any thread and more than once."""
        self._process.kill()
        self._process.wait()

    def _lost(self, when: str) -> DeviceLost:
        try:
            code = self._process.wait(_GRACE_S)
        except subprocess.TimeoutExpired:
            self.kill()
            code = self._process.returncode
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
