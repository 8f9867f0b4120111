"""What a dead language model adds to a caption: once, and from then on.

Every endpoint is a real socket on this machine: a port where nothing listens, one that takes
connections and never says a word, and a small server that streams a caption. The peer is what a
caller gets who hands the same request to the `openai` SDK with its own defaults, which try again.
"""

from __future__ import annotations

import asyncio
import json
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import report

from backend.captions.brief import Brief
from backend.captions.chain import Chain, Written
from backend.captions.chat import messages_for
from backend.captions.llm import Rung
from backend.captions.memory import Memory
from backend.captions.topic import read_topic
from backend.captions.voice import read_voice
from backend.logs import configure_logs

MOST_REFUSED_MS = 100
MOST_BEYOND_DEADLINE_MS = 100
MOST_OPEN_MS = 5
DEADLINE_S = 0.5
CALLS = 1_000
SDK_ROUNDS = 2

CAPTION = "Steam, neon, and a queue worth standing in: a night market is street food as theatre."
PERSONA = {"name": "Mira", "personality": "creative, warm", "content_themes": ["street food"]}
BRIEF = Brief(read_voice(PERSONA), read_topic("a night market"))
MEMORY = Memory()
COLD_START = """\
import asyncio, sys, time
from backend.captions.brief import Brief
from backend.captions.chain import Chain
from backend.captions.llm import Rung
from backend.captions.memory import Memory
from backend.captions.voice import Voice
from backend.logs import configure_logs
async def main():
    configure_logs("ERROR")
    started = time.perf_counter()
    await Chain([Rung("dead", sys.argv[1], "m")]).write(Brief(Voice()), Memory())
    print((time.perf_counter() - started) * 1000)
asyncio.run(main())
"""


class Streaming(BaseHTTPRequestHandler):
    """Streams the caption in ten pieces."""

    protocol_version = "HTTP/1.0"

    def do_POST(self) -> None:
        """Answer any chat alike."""
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.end_headers()
        for start in range(0, len(CAPTION), 9):
            self._event({"content": CAPTION[start : start + 9]}, None)
        self._event({}, "stop")
        self.wfile.write(b"data: [DONE]\n\n")

    def _event(self, delta: dict[str, str], finish: str | None) -> None:
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        chunk = {"id": "1", "object": "chat.completion.chunk", "choices": [choice]}
        self.wfile.write(f"data: {json.dumps(chunk)}\n\n".encode())

    def log_message(self, *args: Any) -> None:
        """Keep stderr for what matters."""


@contextmanager
def streaming_url() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Streaming)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def silent_url() -> Iterator[str]:
    """Take connections and never say a word."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/v1"


def dead_url() -> str:
    """Return an address where nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return f"http://127.0.0.1:{listener.getsockname()[1]}/v1"


async def write(chain: Chain) -> Written:
    return await chain.write(BRIEF, MEMORY)


async def ms(act: Callable[[], Coroutine[Any, Any, Any]]) -> float:
    """Time one act."""
    started = time.perf_counter()
    await act()
    return (time.perf_counter() - started) * 1000


def chain_at(url: str, **limits: float) -> Chain:
    return Chain([Rung("measured", url, "m", **limits)])


async def refused_ms() -> float:
    """A first caption in a process that has asked before."""
    return await ms(partial(write, chain_at(dead_url())))


def cold_ms() -> float:
    """A first caption in a new process."""
    done = subprocess.run(
        [sys.executable, "-c", COLD_START, dead_url()], capture_output=True, text=True, check=True
    )
    return float(done.stdout)


async def black_hole_ms() -> float:
    """A first caption where an endpoint takes the connection and stays silent."""
    with silent_url() as url:
        return await ms(partial(write, chain_at(url, first_token_s=DEADLINE_S)))


async def open_ms(calls: int) -> list[float]:
    """Captions after the first one failed."""
    async with chain_at(dead_url()) as chain:
        await write(chain)
        costs = [await ms(partial(write, chain)) for _ in range(calls)]
        reason = (await write(chain)).degraded_reason
    if "left alone" not in str(reason):
        report.fail(f"the breaker did not stay open: {reason}")
    return costs


async def sdk_ms(url: str) -> float:
    """Ask as the SDK does by default."""
    import openai

    messages: Any = messages_for(BRIEF, MEMORY, structured=False)

    async def ask() -> None:
        async with openai.AsyncOpenAI(base_url=url, api_key="none") as client:
            try:
                stream = await client.chat.completions.create(
                    model="m", messages=messages, stream=True
                )
                async for _ in stream:
                    pass
            except openai.APIConnectionError:
                return

    return await ms(ask)


async def healthy_ms(url: str) -> float:
    """A caption where the endpoint is well, gate included."""
    chain = chain_at(url)
    cost = await ms(partial(write, chain))
    if (await write(chain)).text != CAPTION:
        report.fail("the endpoint's caption did not come through")
    return cost


async def measure(rounds: int, calls: int) -> report.Report:
    """Measure every kind of dead endpoint, and one that is well."""
    with streaming_url() as url:
        await healthy_ms(url)  # imports the SDK
        well: dict[str, list[float]] = {"chain": [], "SDK": []}
        for _ in range(rounds):
            well["chain"].append(await healthy_ms(url))
            well["SDK"].append(await sdk_ms(url))
    found = {
        "refused": [await refused_ms() for _ in range(rounds)],
        "refused, new process": [cold_ms() for _ in range(rounds)],
        "black hole": [await black_hole_ms() for _ in range(rounds)],
        "breaker open": await open_ms(calls),
        "SDK's defaults, refused": [await sdk_ms(dead_url()) for _ in range(SDK_ROUNDS)],
        "endpoint is well": well["chain"],
        "SDK's defaults, endpoint is well": well["SDK"],
    }
    return summed_up(found, report.ratio(well["chain"], well["SDK"]), rounds)


def summed_up(
    found: dict[str, list[float]], ratio_when_well: dict[str, float], rounds: int
) -> report.Report:
    """Turn milliseconds into claims."""
    opened = found["breaker open"]
    p99 = statistics.quantiles(opened, n=100)[98]
    spreads = {name: report.spread(costs) for name, costs in found.items()}
    beyond = [cost - DEADLINE_S * 1000 for cost in found["black hole"]]
    every = spreads["SDK's defaults, refused"]["median"]
    return report.Report(
        figures={
            "rounds": rounds,
            "calls": len(opened),
            "deadline_s": DEADLINE_S,
            "ms": spreads,
            "breaker_open_p99_ms": round(p99, 3),
            "ratio_when_well": ratio_when_well,
        },
        claims=[
            report.at_most(
                "dead endpoint, refused: ms added, once", max(found["refused"]), MOST_REFUSED_MS
            ),
            report.at_most(
                "dead endpoint, refused, new process: ms added, once",
                max(found["refused, new process"]),
                MOST_REFUSED_MS,
            ),
            report.at_most(
                f"black hole, deadline {DEADLINE_S:g} s: ms beyond it, once",
                max(beyond),
                MOST_BEYOND_DEADLINE_MS,
            ),
            report.at_most(f"breaker open, p99 of {len(opened):,}: ms", p99, MOST_OPEN_MS),
            report.Claim("the SDK's defaults, refused: ms added, every time", every),
            report.Claim("endpoint is well: chain and gate / bare SDK", ratio_when_well["median"]),
        ],
        tables=[report.spread_table("milliseconds a caption", spreads)],
    )


def main() -> None:
    parser = report.arguments(__doc__, rounds=9)
    parser.add_argument(
        "--calls",
        type=report.positive,
        default=CALLS,
        help="captions with the breaker open; default: %(default)s",
    )
    options = parser.parse_args()
    configure_logs("ERROR")
    found = asyncio.run(measure(options.rounds, max(options.calls, 2)))
    report.show("caption_chain", found, as_json=options.json)


if __name__ == "__main__":
    main()
