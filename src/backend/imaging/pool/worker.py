"""The process that owns one device: `python -m backend.imaging.pool.worker FD CONTEXT`.

The card is pinned in the environment before this interpreter starts, so nothing can import torch
too early. The parent's end of the socket is the worker's lifeline: when it closes, for whatever
reason, the worker is gone within a moment, even in the midst of a picture.
"""

from __future__ import annotations

import functools
import importlib
import json
import os
import queue
import resource
import signal
import sys
import threading
import traceback
from multiprocessing.connection import Connection

from backend.errors import GatorError, ModelLoadFailed
from backend.imaging.pool.messages import Done, Failed, Ready, Render, Reply
from backend.imaging.types import Engine, EngineContext


def main(arguments: list[str]) -> None:
    """Serve the parent at the other end of the inherited socket until it hangs up."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides when to end
    connection: Connection[Reply, Render] = Connection(int(arguments[0]))
    context = EngineContext(**json.loads(arguments[1]))
    inbox: queue.SimpleQueue[Render] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(connection, inbox), daemon=True).start()
    engines = functools.cache(functools.partial(_build_engine, context=context))
    connection.send(Ready(os.getpid()))
    while True:
        connection.send(_answer(inbox.get(), engines))


def _listen(connection: Connection[Reply, Render], inbox: queue.SimpleQueue[Render]) -> None:
    try:
        while True:
            inbox.put(connection.recv())
    except (EOFError, OSError):
        os._exit(0)


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


def _answer(task: Render, engines: functools._lru_cache_wrapper[Engine]) -> Done | Failed:
    try:
        image = engines(task.card.engine).generate(task.request, task.card)
    except GatorError as exc:
        return Failed(exc.code, exc.message, exc.details)
    except Exception as exc:  # noqa: BLE001 - the worker's loop: report it and stay alive
        return Failed(
            "generation_failed",
            f"model {task.card.name!r} failed: {type(exc).__name__}: {exc}",
            {"traceback": traceback.format_exc()},
        )
    return Done(image, _rss_bytes())


def _rss_bytes() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


if __name__ == "__main__":
    main(sys.argv[1:])
