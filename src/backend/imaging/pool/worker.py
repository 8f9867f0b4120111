"""The process that owns one device: `python -m backend.imaging.pool.worker FD CONTEXT`.

The card is pinned in the environment before this interpreter starts, so nothing can import torch
too early. The parent's end of the socket is the worker's lifeline: when it closes, for whatever
reason, the worker is gone within a moment, even in the midst of a picture.

Three threads: the main one renders, one encodes and writes what was rendered before, so that the
device does not wait for a PNG, and one listens, so that a cancellation is heard within a step.
"""

from __future__ import annotations

import importlib
import json
import os
import queue
import resource
import shutil
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

from backend.errors import (
    DeviceFault,
    GatorError,
    GenerationFailed,
    ModelLoadFailed,
    RenderCancelled,
    StorageError,
)
from backend.imaging.pool.messages import (
    Began,
    Cancel,
    Failed,
    Finished,
    Order,
    Ready,
    Render,
    Reply,
    Rested,
    Stepped,
)
from backend.imaging.types import Drawn, Engine, EngineContext, MemoryReading, Phase

STEP_INTERVAL_S = 0.05
PREVIEW_INTERVAL_S = 0.5
MEMORY_INTERVAL_S = 0.5
_ENCODING = 16
"""Pictures that may wait to be encoded; bounds the memory that a slow disk costs."""


def main(arguments: list[str]) -> None:
    """Serve the parent at the other end of the inherited socket until it hangs up."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides when to end
    Worker(Connection(int(arguments[0])), EngineContext(**json.loads(arguments[1]))).serve()


class Worker:
    """Renders what the parent orders, one task after the other."""

    def __init__(self, connection: Connection[Reply, Order], context: EngineContext) -> None:
        self._connection = connection
        self._context = context
        self._sending = threading.Lock()
        self._inbox: queue.SimpleQueue[Render] = queue.SimpleQueue()
        self._drawn: queue.Queue[tuple[Render, int, Drawn]] = queue.Queue(_ENCODING)
        self._cancelled: set[int] = set()
        self._engines: dict[str, Engine] = {}
        self._folder = ""

    def serve(self) -> None:
        """Render until the process ends."""
        for work in (self._listen, self._encode):
            threading.Thread(target=work, name=work.__name__, daemon=True).start()
        self.send(Ready(os.getpid()))
        while True:
            self._do(self._inbox.get())

    def send(self, reply: Reply) -> None:
        """Tell the parent; safe from any thread."""
        with self._sending:
            self._connection.send(reply)

    def is_cancelled(self, task: int) -> bool:
        """Tell whether the parent does not want a task any more."""
        return task in self._cancelled

    def memory(self) -> MemoryReading | None:
        """Return how full the device is, as the first engine tells that can; engines' thread."""
        readings = (engine.memory() for engine in self._engines.values())
        return next((reading for reading in readings if reading), None)

    def _listen(self) -> None:
        try:
            while True:
                order = self._connection.recv()
                if isinstance(order, Cancel):
                    self._cancelled.add(order.task)
                else:
                    self._folder = order.folder
                    self._inbox.put(order)
        except (EOFError, OSError):
            if self._folder:
                shutil.rmtree(self._folder, ignore_errors=True)
            os._exit(0)

    def _do(self, task: Render) -> None:
        watch = _Watch(self, task.task)
        try:
            watch.check()
            drawn = self._engine(task.card.engine, watch).render(task.requests, task.card, watch)
        except GatorError as exc:
            self.send(Failed(task.task, exc.code, exc.message, exc.details))
            if isinstance(exc, DeviceFault):
                os._exit(1)
        except Exception as exc:  # noqa: BLE001 - the worker's loop: report it and stay alive
            self.send(_crash(task, exc))
        else:
            models = tuple(name for e in self._engines.values() for name in e.models())
            self.send(Rested(task.task, models, _rss_bytes(), self.memory()))
            for index, picture in enumerate(drawn):
                self._drawn.put((task, index, picture))
        self._cancelled.discard(task.task)

    def _engine(self, path: str, watch: _Watch) -> Engine:
        if path not in self._engines:
            watch.phase("load")
            self._engines[path] = _build_engine(path, self._context)
        return self._engines[path]

    def _encode(self) -> None:
        while True:
            self.send(_filed(*self._drawn.get()))


class _Watch:
    """Tells the parent how far a task is, and the engine when to stop."""

    def __init__(self, worker: Worker, task: int) -> None:
        self._worker = worker
        self._task = task
        self._told = self._previewed = time.monotonic()
        self._measured = 0.0

    def check(self) -> None:
        if self._worker.is_cancelled(self._task):
            raise RenderCancelled("the picture was cancelled.")

    def phase(self, name: Phase) -> None:
        self._worker.send(Began(self._task, name))

    def step(self, done: int, total: int, preview: Callable[[], bytes] | None = None) -> None:
        self.check()
        now = time.monotonic()
        if done < total and now - self._told < STEP_INTERVAL_S:
            return
        self._told = now
        shown = None
        if preview and done < total and now - self._previewed >= PREVIEW_INTERVAL_S:
            shown = preview()
            self._previewed = now
        memory = None
        if now - self._measured >= MEMORY_INTERVAL_S:
            memory, self._measured = self._worker.memory(), now
        self._worker.send(Stepped(self._task, done, total, shown, memory))


def _build_engine(path: str, context: EngineContext) -> Engine:
    module, _, function = path.partition(":")
    try:
        engine: Engine = getattr(importlib.import_module(module), function)(context)
    except (ImportError, AttributeError) as exc:
        raise ModelLoadFailed(
            f"the engine {path} cannot be loaded: {exc}. Install the extra it needs "
            "(`pip install 'gator-studio[local]'` for diffusion models).",
            {"engine": path},
        ) from exc
    return engine


def _crash(task: Render, exc: Exception) -> Failed:
    return Failed(
        task.task,
        GenerationFailed.code,
        f"model {task.card.name!r} failed: {type(exc).__name__}: {exc}",
        {"traceback": traceback.format_exc()},
    )


def _filed(task: Render, index: int, drawn: Drawn) -> Finished | Failed:
    """Encode a picture and write it down."""
    started = time.perf_counter()
    path = Path(task.folder, f"{os.getpid()}-{task.task}-{index}")
    try:
        path.write_bytes(drawn.encode())
    except OSError as exc:
        path.unlink(missing_ok=True)
        message = f"{task.folder}: a picture cannot be written there: {exc.strerror}; make room."
        return Failed(task.task, StorageError.code, message, index=index)
    except Exception as exc:  # noqa: BLE001 - the encoder's loop: report it and go on
        failed = _crash(task, exc)
        return Failed(task.task, failed.code, failed.message, failed.details, index)
    return Finished(
        task=task.task,
        index=index,
        path=str(path),
        format=drawn.format,
        width=drawn.width,
        height=drawn.height,
        seed=drawn.seed,
        kind=drawn.kind,
        seconds={**drawn.seconds, "encode": round(time.perf_counter() - started, 4)},
        receipt=drawn.receipt,
        prompt_report=drawn.prompt_report,
    )


def _rss_bytes() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


if __name__ == "__main__":
    main(sys.argv[1:])
