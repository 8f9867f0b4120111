"""One OpenAI-compatible chat endpoint: how it is reached, how long it may take, what it said.

Invariants: a call ends within its deadlines (to connect, to the first token, between tokens, in
all), nothing is tried twice, no redirect is followed, and no foreign error leaves this module.

The `openai` SDK takes a second to import. It is imported by the first call to an endpoint that
takes connections, off the event loop, and before any deadline runs.
"""

from __future__ import annotations

import asyncio
import importlib
import ipaddress
import re
import sys
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import cache
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies

from backend.captions.chat import thinking_length
from backend.errors import ProviderError, ProviderRateLimited, ProviderTimeout

CONNECT_TIMEOUT_S = 0.5

_LONGEST_THINKING = 40_000
_LONGEST_RETRY_AFTER_S = 3_600.0
_NEAR_NAMES = (".localhost", ".local", ".internal", ".lan", ".home.arpa")
_NO_SUCH_PATH = frozenset({404, 405, 501})
_HINTS = {
    401: ", so it does not accept the key",
    403: ", so it does not accept the key",
    404: ", so it knows no such model or path",
}


def is_near(base_url: str) -> bool:
    """Tell whether an address is this machine's or a private one, by its looks alone."""
    host = (urlsplit(base_url).hostname or "").rstrip(".")
    try:
        return not ipaddress.ip_address(host).is_global
    except ValueError:
        return "." not in host or host.endswith(_NEAR_NAMES)


@dataclass(frozen=True, slots=True)
class Limits:
    """How long a call may take, in seconds."""

    first_token_s: float
    stall_s: float
    timeout_s: float


class Deadlines:
    """The deadline that runs now: to the first token, then to the next one, and in all."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._started = 0.0
        self._timeout: asyncio.Timeout | None = None
        self.first_token_s: float | None = None

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run the deadlines.

        Raises:
            ProviderTimeout: one of them passed.
        """
        limits = self._limits
        self._started = asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout(min(limits.first_token_s, limits.timeout_s)) as timeout:
                self._timeout = timeout
                yield
        except TimeoutError as exc:
            raise ProviderTimeout(self._missed(), {"at": "chat"}) from exc

    def heard(self) -> None:
        """Note that a token came: the next one has its own deadline."""
        now = asyncio.get_running_loop().time()
        if self.first_token_s is None:
            self.first_token_s = now - self._started
        if self._timeout is not None:
            ends = self._started + self._limits.timeout_s
            self._timeout.reschedule(min(now + self._limits.stall_s, ends))

    def _missed(self) -> str:
        limits = self._limits
        if asyncio.get_running_loop().time() >= self._started + limits.timeout_s:
            return f"It took longer than {limits.timeout_s:g} s over its answer."
        if self.first_token_s is None:
            return f"It did not begin to answer within {limits.first_token_s:g} s."
        return f"It fell silent for {limits.stall_s:g} s in the middle of its answer."


class Reply:
    """What a model has said so far.

    Args:
        longest: characters that it may say, thinking aloud aside.
    """

    def __init__(self, longest: int) -> None:
        self.longest = longest
        self.refusal = ""
        self.finish: str | None = None
        self._pieces: list[str] = []
        self._length = 0

    @property
    def text(self) -> str:
        """Everything said."""
        if len(self._pieces) > 1:
            self._pieces = ["".join(self._pieces)]
        return "".join(self._pieces)

    @property
    def is_full(self) -> bool:
        """Whether there is no sense in hearing more."""
        if self._length <= self.longest:
            return False
        thought = thinking_length(self.text)
        return self._length - thought > self.longest or thought > _LONGEST_THINKING

    def take(self, chunk: object, part: str = "delta") -> bool:
        """Take in a chunk of any shape; tell whether a word was in it, be it thinking."""
        choices = _field(chunk, "choices")
        choice = choices[0] if isinstance(choices, list) and choices else None
        said = _field(choice, part)
        finish = _field(choice, "finish_reason")
        self.finish = finish if isinstance(finish, str) and finish else self.finish
        text, refusal = _text(said, "content"), _text(said, "refusal")
        if text:
            self._pieces.append(text)
            self._length += len(text)
        self.refusal += refusal
        return bool(text or refusal or _text(said, "reasoning_content") or _text(said, "reasoning"))


class Endpoint:
    """Where a model is asked.

    Args:
        base_url: the address, as the `openai` SDK takes it.
        model: the model's name there.
        api_key: its key; local servers need none.
        timeout_s: seconds that a call may take in all.
    """

    def __init__(self, base_url: str, model: str, api_key: str | None, timeout_s: float) -> None:
        self.model = model
        self._base_url = base_url
        self._api_key = api_key or "none"
        self._timeout_s = timeout_s

    @asynccontextmanager
    async def client(self) -> AsyncIterator[Any]:
        """Yield a client for one call: it belongs to the running loop and is closed after it.

        Raises:
            ProviderError: nothing takes connections there.
        """
        if "openai" not in sys.modules:
            await self._knock()
        sdk, http, tls = await asyncio.to_thread(_libraries)
        timeout = http.Timeout(self._timeout_s, connect=min(CONNECT_TIMEOUT_S, self._timeout_s))
        async with (
            http.AsyncClient(verify=tls, timeout=timeout) as plain,
            sdk.AsyncOpenAI(
                base_url=self._base_url, api_key=self._api_key, max_retries=0, http_client=plain
            ) as client,
        ):
            yield client

    async def ask(
        self,
        client: Any,
        messages: Sequence[Mapping[str, str]],
        reply: Reply,
        deadlines: Deadlines,
        **options: Any,
    ) -> None:
        """Hear an answer, until it ends or is too long.

        Raises:
            ProviderError: the endpoint answered badly.
        """
        with _translated():
            asked = client.chat.completions.with_streaming_response.create(
                model=self.model, messages=messages, stream=True, **options
            )
            async with asked as response:
                if "json" in response.headers.get("content-type", ""):
                    reply.take(await response.json(), "message")
                    deadlines.heard()
                    return
                async for chunk in await response.parse():
                    if reply.take(chunk):
                        deadlines.heard()
                    if reply.is_full:
                        return

    async def greet(self, client: Any) -> None:
        """Ask for the list of models, which costs nothing.

        Raises:
            ProviderError: it did not answer, or does not want to be asked.
        """
        http = _libraries()[1]
        try:
            with _translated():
                await client.get("/models", cast_to=http.Response)
        except ProviderError as exc:
            if exc.details.get("status") not in _NO_SUCH_PATH:
                raise

    async def _knock(self) -> None:
        """Find out that nothing is there before the SDK is imported to ask it."""
        if getproxies():
            return
        parts = urlsplit(self._base_url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                _, writer = await asyncio.open_connection(parts.hostname, port)
        except OSError as exc:
            raise _unreachable() from exc
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()


@cache
def _libraries() -> tuple[Any, Any, Any]:
    """Return the SDK, its HTTP library and what checks certificates: slow to make."""
    sdk, http = importlib.import_module("openai"), importlib.import_module("httpx2")
    return sdk, http, http.create_ssl_context()


@contextmanager
def _translated() -> Iterator[None]:
    sdk, http, _ = _libraries()
    try:
        yield
    except sdk.RateLimitError as exc:
        wait_s = _seconds(exc.response.headers.get("retry-after"))
        raise ProviderRateLimited("It asks to wait.", {"retry_after_s": wait_s}) from exc
    except sdk.APIStatusError as exc:
        status = exc.status_code
        raise ProviderError(
            f"It answered with status {status}{_HINTS.get(status, '')}.",
            {"status": status, "at": "chat"},
        ) from exc
    except sdk.APIConnectionError as exc:
        if isinstance(exc.__cause__, http.ConnectError | http.ConnectTimeout):
            raise _unreachable() from exc
        raise ProviderError("It broke the connection off.", {"at": "chat"}) from exc
    except (sdk.OpenAIError, http.HTTPError, ValueError, RecursionError) as exc:
        raise ProviderError("It gave no usable answer.", {"at": "chat"}) from exc


def _unreachable() -> ProviderError:
    return ProviderError("It cannot be reached.", {"at": "connect"})


def _seconds(retry_after: str | None) -> float | None:
    """Read a header that holds seconds or a date."""
    if not retry_after:
        return None
    if re.fullmatch(r"\d{1,9}(?:\.\d{1,9})?", retry_after):
        seconds = float(retry_after)
    else:
        try:
            until = parsedate_to_datetime(retry_after)
        except ValueError:
            return None
        until = until if until.tzinfo else until.replace(tzinfo=UTC)
        seconds = (until - datetime.now(UTC)).total_seconds()
    return min(max(seconds, 0.0), _LONGEST_RETRY_AFTER_S)


def _field(owner: object, name: str) -> Any:
    return owner.get(name) if isinstance(owner, Mapping) else getattr(owner, name, None)


def _text(owner: object, name: str) -> str:
    value = _field(owner, name)
    return value if isinstance(value, str) else ""
