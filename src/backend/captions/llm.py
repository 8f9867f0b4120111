"""One language model behind a breaker: a rung of the chain.

Invariants: after a failure the endpoint is left alone, so that a dead one costs once and then
nothing; it is asked again when a probe in the background found that it does again what it failed
at. What is wrong with one request or one answer is no failure of the endpoint.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

from purgatory import AsyncCircuitBreakerFactory
from purgatory.domain.model import ClosedState, OpenedState

from backend.captions.brief import Brief
from backend.captions.chat import RESPONSE_FORMAT, messages_for, read_answer
from backend.captions.endpoint import Deadlines, Endpoint, Limits, Reply, is_near
from backend.captions.gate import Finding
from backend.captions.memory import Memory
from backend.captions.recovery import Recovery
from backend.errors import ProviderError

NEAR_FIRST_TOKEN_S = 60.0
FAR_FIRST_TOKEN_S = 8.0
STALL_S = 10.0
TIMEOUT_S = 120.0
PROBE_AFTER_S = 2.0
PROBE_AT_LEAST_EVERY_S = 300.0
FAILURES_UNTIL_OPEN = 1

_MOST_TOKENS = 2_000
_PROBE_TOKENS = 16
_PROBE = ({"role": "user", "content": "Say hello."},)
_UNKNOWN_PARAMETER = frozenset({400, 422, 501})
_ABOUT_THE_REQUEST = frozenset({400, 413, 422})
_CUT_SHORT = {
    "length": ("too_long", "the model was stopped at its own limit of tokens"),
    "content_filter": ("refusal", "the endpoint's content filter stopped the model"),
}


@dataclass(frozen=True, slots=True)
class Answer:
    """What a model said.

    Attributes:
        text: the caption; "" where it did not write a whole one.
        first_token_s: seconds from asking to its first word.
        fault: why there is no whole caption.
    """

    text: str
    first_token_s: float | None
    fault: Finding | None = None


class Rung:
    """One chat endpoint, behind a breaker.

    Args:
        name: what it is called in results and logs.
        base_url: the endpoint, as the `openai` SDK takes it.
        model: the model's name there.
        api_key: its key; local servers need none.
        first_token_s: seconds to the first token; by default longer where the model may run on
            this machine's CPU.
        stall_s: seconds from one token to the next.
        timeout_s: seconds in all.
        probe_after_s: seconds until a failed endpoint is probed, doubled by every failure.
    """

    def __init__(
        self,
        name: str,
        base_url: str,
        model: str,
        *,
        api_key: str | None = None,
        first_token_s: float | None = None,
        stall_s: float | None = None,
        timeout_s: float | None = None,
        probe_after_s: float = PROBE_AFTER_S,
    ) -> None:
        self.name = name
        self.model = model
        default_s = NEAR_FIRST_TOKEN_S if is_near(base_url) else FAR_FIRST_TOKEN_S
        self.limits = Limits(first_token_s or default_s, stall_s or STALL_S, timeout_s or TIMEOUT_S)
        self.recovery = Recovery(
            name, self._probe, first_s=probe_after_s, at_most_s=PROBE_AT_LEAST_EVERY_S
        )
        self._endpoint = Endpoint(base_url, model, api_key, self.limits.timeout_s)
        self._takes_schema = True
        self._failed_at_chat = False
        self._breakers = AsyncCircuitBreakerFactory(
            default_threshold=FAILURES_UNTIL_OPEN,
            default_ttl=float("inf"),  # a probe closes it, never a user's request
            exclude=[asyncio.CancelledError, (ProviderError, _is_about_the_request)],
        )

    async def write(self, brief: Brief, memory: Memory) -> Answer:
        """Return what the model answered.

        Raises:
            ProviderTimeout: no answer within a deadline.
            ProviderRateLimited: the endpoint asks to wait.
            ProviderError: it cannot be reached, answered badly, or is left alone for now.
        """
        breaker = await self._breakers.get_breaker(self.name)
        try:
            async with breaker:
                answer = await self._ask(brief, memory)
        except OpenedState as exc:
            exc.__traceback__ = None  # one instance is raised again and again; do not let it grow
            self.recovery.watch()
            raise ProviderError(
                "It failed a moment ago and is left alone for now.", {"breaker": "open"}
            ) from None
        except ProviderError as exc:
            if not _is_about_the_request(exc):
                self._failed_at_chat = exc.details.get("at") == "chat"
                self.recovery.failed(float(exc.details.get("retry_after_s") or 0))
            raise
        self.recovery.succeeded()
        return answer

    async def _ask(self, brief: Brief, memory: Memory) -> Answer:
        """Ask for structured output where it is not known to be refused."""
        deadlines = Deadlines(self.limits)
        async with self._endpoint.client() as client, deadlines.running():
            if self._takes_schema:
                try:
                    reply = await self._hear(client, deadlines, brief, memory, structured=True)
                except ProviderError as exc:
                    if exc.details.get("status") not in _UNKNOWN_PARAMETER:
                        raise
                else:
                    return _answer(reply, deadlines.first_token_s)
            reply = await self._hear(client, deadlines, brief, memory, structured=False)
            self._takes_schema = False
        return _answer(reply, deadlines.first_token_s)

    async def _hear(
        self, client: Any, deadlines: Deadlines, brief: Brief, memory: Memory, *, structured: bool
    ) -> Reply:
        reply = Reply(2 * brief.platform.limit + 300)  # the rest is JSON's escapes
        messages = messages_for(brief, memory, structured=structured)
        options = {"response_format": RESPONSE_FORMAT} if structured else {}
        await self._endpoint.ask(
            client,
            messages,
            reply,
            deadlines,
            max_completion_tokens=_MOST_TOKENS,
            seed=brief.seed % 2**31,
            **options,
        )
        return reply

    async def _probe(self) -> None:
        """Do what failed, cheaply, and close the breaker where it works again.

        Raises:
            ProviderError: it does not.
        """
        deadlines = Deadlines(self.limits)
        async with self._endpoint.client() as client, deadlines.running():
            await self._endpoint.greet(client)
            if self._failed_at_chat:
                await self._say_hello(client, deadlines)
        breaker = await self._breakers.get_breaker(self.name)
        breaker.context.set_state(ClosedState())

    async def _say_hello(self, client: Any, deadlines: Deadlines) -> None:
        reply = Reply(0)
        try:
            await self._endpoint.ask(
                client, _PROBE, reply, deadlines, max_completion_tokens=_PROBE_TOKENS
            )
        except ProviderError as exc:
            if not _is_about_the_request(exc):
                raise
        else:
            if deadlines.first_token_s is None and reply.finish is None:
                raise ProviderError("It sent an answer without text.")


def _is_about_the_request(exc: BaseException) -> bool:
    """Tell whether the endpoint is well, and this request or this answer is not."""
    if not isinstance(exc, ProviderError):
        return False
    return exc.details.get("status") in _ABOUT_THE_REQUEST or exc.details.get("at") == "answer"


def _answer(reply: Reply, first_token_s: float | None) -> Answer:
    """Return a whole caption, or why there is none."""
    fault = None
    if reply.refusal:
        fault = Finding("refusal", repr(reply.refusal[:80]))
    elif reply.is_full:
        fault = Finding("too_long", f"the model was stopped after {reply.longest} characters")
    elif reply.finish in _CUT_SHORT:
        fault = Finding(*_CUT_SHORT[reply.finish])
    if fault:
        return Answer("", first_token_s, fault)
    text = read_answer(reply.text)
    if reply.finish is None:
        raise ProviderError("It broke off in the middle of its answer.", {"at": "chat"})
    return Answer(text, first_token_s)
