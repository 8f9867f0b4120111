"""Cloud images against real local endpoints: good ones, slow ones, broken ones and hostile ones."""

from __future__ import annotations

import asyncio
import gzip
import ipaddress
import json
import random
import socket
import ssl
import tracemalloc
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from backend.config import Settings, load_settings
from backend.database.engine import Database
from backend.database.upgrade import downgrade, upgrade
from backend.errors import (
    ConfigurationError,
    ContentRejected,
    GatorError,
    ProviderError,
    ProviderNotConfigured,
    ProviderRateLimited,
    ProviderTimeout,
    SpendingCapReached,
)
from backend.imaging.cloud import answers
from backend.imaging.cloud.fetching import is_public
from backend.imaging.cloud.openai_images import OpenAIImages
from backend.imaging.cloud.retrying import RetryPolicy, retry_after
from backend.imaging.types import GeneratedImage, ImageRequest
from backend.services.ai_models import AIModelManager
from backend.services.spending import CloudSpending, MeteredImages, longest_call
from tests.fixtures.images_endpoint import (
    TLS,
    Answer,
    Endpoint,
    inline,
    listening,
    png,
    refused,
    said,
)

QUICK = RetryPolicy(max_attempts=3, first_delay_s=0.01, max_delay_s=0.02)


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    with listening() as state:
        yield state


def cloud_at(base_url: str, **changes: Any) -> OpenAIImages:
    values = {"api_key": "sk-mine", "model": "m", "timeout_s": 5.0, "retries": QUICK, **changes}
    return OpenAIImages(base_url=base_url, **values)


async def ask(cloud: Any, **options: Any) -> GeneratedImage:
    try:
        request = ImageRequest.from_call("a harbour", {"seed": 7, **options})
        made = await cloud.generate(request, cloud.cards()[0])
        assert isinstance(made, GeneratedImage)
        return made
    finally:
        await cloud.close()


async def fails(cloud: Any, kind: type[GatorError], **options: Any) -> GatorError:
    with pytest.raises(GatorError) as caught:
        await ask(cloud, **options)
    assert type(caught.value) is kind, repr(caught.value)
    return caught.value


async def test_an_inline_answer_is_the_picture(endpoint: Endpoint) -> None:
    endpoint.answers = [inline()]
    made = await ask(cloud_at(endpoint.base_url), width=512, height=768, appearance="red hair")
    assert (made.image_data, made.format, made.width, made.height) == (png(), "png", 64, 64)
    assert (made.kind, made.provider, made.device_id) == ("cloud", "openai", None)
    assert made.receipt["seed_used"] is False
    ((path, headers, body),) = endpoint.asked
    assert path == "/v1/images/generations"
    assert headers["authorization"] == "Bearer sk-mine"
    sent = json.loads(body)
    assert sent == {"model": "m", "prompt": "red hair, a harbour", "n": 1, "size": "512x768"}


async def test_a_size_that_nobody_named_is_the_settings_or_the_endpoints_to_choose(
    endpoint: Endpoint,
) -> None:
    endpoint.answers = [inline()]
    for setting, sent in (("1536x1024", {"size": "1536x1024"}), ("auto", {})):
        settings = load_settings(
            cloud_base_url=endpoint.base_url, cloud_model="m", cloud_size=setting
        )
        await ask(OpenAIImages.from_settings(settings))
        body = json.loads(endpoint.asked[-1][2])
        assert {name: value for name, value in body.items() if name == "size"} == sent
    await ask(cloud_at(endpoint.base_url, size="auto"), width=512, height=256)
    assert json.loads(endpoint.asked[-1][2])["size"] == "512x256"
    with pytest.raises(ConfigurationError, match="GATOR_CLOUD_SIZE='square'"):
        load_settings(cloud_size="square")


@pytest.mark.parametrize(
    ("usage", "kept"),
    [
        ({"total_tokens": 7}, False),
        ({"input_tokens": 3, "output_tokens": 4, "total_tokens": 7}, False),
        ({"input_tokens": 3, "output_tokens": "4", "total_tokens": 7}, False),
        ({"input_tokens": 3, "output_tokens": 4, "total_tokens": 7, "more": 1}, True),
        ([7], False),
    ],
)
async def test_tokens_are_kept_where_the_endpoint_counts_them_in_full(
    endpoint: Endpoint, usage: Any, kept: bool
) -> None:
    details = {"text_tokens": 3, "image_tokens": 0}
    told = {**usage, "input_tokens_details": details} if kept else usage
    picture = json.loads(inline().body)
    endpoint.answers = [said({**picture, "usage": told})]
    receipt = (await ask(cloud_at(endpoint.base_url))).receipt
    whole = {"input_tokens": 3, "output_tokens": 4, "total_tokens": 7}
    assert receipt.get("usage") == ({**whole, "input_tokens_details": details} if kept else None)


async def test_a_url_of_the_providers_own_host_is_fetched_without_the_key(
    endpoint: Endpoint,
) -> None:
    endpoint.answers = [endpoint.url_answer("/made/1.png?sig=x%20y")]
    endpoint.files["/made/1.png?sig=x%20y"] = Answer(302, headers={"location": "2.png"})
    endpoint.files["/made/2.png"] = Answer(body=png())
    made = await ask(cloud_at(endpoint.base_url))
    assert made.image_data == png()
    assert made.receipt["answered_with"] == "url"
    assert endpoint.paths()[1:] == ["/made/1.png?sig=x%20y", "/made/2.png"]
    for _, headers, _ in endpoint.asked[1:]:
        assert "authorization" not in headers
        assert headers["host"] == f"127.0.0.1:{endpoint.port}"


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("http://elsewhere.example/1.png", "is not at 127.0.0.1"),
        ("https://169.254.169.254/latest/meta-data", "is not at 127.0.0.1"),
        ("https://127.0.0.1.evil.example/1.png", "is not at 127.0.0.1"),
        ("http://127.0.0.1:1/1.png", "a port that is not the provider's"),
        ("http://localhost:{port}/1.png", "a port that is not the provider's"),
        ("https://localhost/1.png", "leads to a private address"),
        ("https://2130706433/1.png", "is not at 127.0.0.1"),
        ("http://me@127.0.0.1:{port}/1.png", "is no plain web address"),
        ("file:///etc/passwd", "is no plain web address"),
        ("ftp://127.0.0.1:{port}/1.png", "a port that is not the provider's"),
        ("//127.0.0.1:{port}/1.png", "a port that is not the provider's"),
        ("http://[::1/1.png", "is no plain web address"),
        ("http://127.0.0.1:99999/", "is no plain web address"),
        ("https://no.such.name.invalid/1.png", "is not at 127.0.0.1"),
    ],
)
async def test_a_url_elsewhere_is_refused(endpoint: Endpoint, url: str, why: str) -> None:
    url = url.replace("{port}", str(endpoint.port))
    cloud = cloud_at(endpoint.base_url, image_hosts=("localhost",))
    endpoint.files["/redirects"] = Answer(307, headers={"location": url})
    forms = [said({"data": [{"url": url}]}), endpoint.url_answer("/redirects")]
    # as a redirect, an address without a scheme has the provider's own
    for answer in forms[:1] if url.startswith("//") else forms:
        endpoint.answers = [answer]
        error = await fails(cloud, ProviderError)
        assert why in error.message
        assert error.details["may_be_charged"] is True
        assert "/1.png" not in endpoint.paths()


async def test_a_host_that_leads_to_a_private_address_is_refused(
    endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A public name whose record says 10.0.0.1, as a rebinding name server would answer."""
    loop = asyncio.get_running_loop()
    resolve = loop.getaddrinfo

    async def rebound(host: Any, port: Any, **options: Any) -> Any:
        found = {"cdn.example": "10.0.0.1", "api.example": "127.0.0.1"}.get(host, host)
        return await resolve(found, port, **options)

    monkeypatch.setattr(loop, "getaddrinfo", rebound)
    endpoint.answers = [said({"data": [{"url": "https://cdn.example/1.png"}]})]
    cloud = cloud_at(endpoint.base_url, image_hosts=("cdn.example",))
    assert "private address" in (await fails(cloud, ProviderError)).message


async def test_too_many_redirects_end(endpoint: Endpoint) -> None:
    endpoint.answers = [endpoint.url_answer("/round")]
    endpoint.files["/round"] = Answer(302, headers={"location": "/round"})
    error = await fails(cloud_at(endpoint.base_url), ProviderError)
    assert "more than 3 times" in error.message
    assert endpoint.paths().count("/round") == 4


async def test_a_picture_over_https_is_trusted_by_its_certificate(endpoint: Endpoint) -> None:
    trusting = ssl.create_default_context(cafile=str(TLS / "cert.pem"))
    with listening(tls=True) as secure:
        secure.files["/1.png"] = Answer(body=png())
        endpoint.answers = [said({"data": [{"url": f"{secure.origin}/1.png"}]})]
        # the provider stands at the secure address; only its API is asked elsewhere
        for tls, kind in ((trusting, None), (None, ProviderError)):
            cloud = cloud_at(secure.base_url, tls=tls)
            if kind is None:
                assert await cloud._fetch(f"{secure.origin}/1.png") == png()
            else:
                with pytest.raises(kind, match=r"(?i)certificate"):
                    await cloud._fetch(f"{secure.origin}/1.png")


@pytest.mark.parametrize("declared", [True, False])
async def test_too_large_a_picture_is_not_read_to_its_end(
    endpoint: Endpoint, declared: bool
) -> None:
    length = {"content-length": str(65 * 1024**2)} if declared else {}
    endpoint.answers = [endpoint.url_answer("/large")]
    endpoint.files["/large"] = Answer(drip=2_000, headers=length)
    error = await fails(cloud_at(endpoint.base_url), ProviderError)
    assert "larger than 64 MiB" in error.message


async def test_an_endless_inline_answer_is_not_read_to_its_end(
    endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answers, "MAX_ANSWER_BYTES", 1024**2)
    endpoint.answers = [Answer(drip=2_000, headers={"content-type": "application/json"})]
    assert "more than" in (await fails(cloud_at(endpoint.base_url), ProviderError)).message


@pytest.mark.parametrize("status", [400, 404, 429, 503])
async def test_an_endless_error_is_not_read_to_its_end(endpoint: Endpoint, status: int) -> None:
    """A gibibyte behind the words; the server counts how much of it was taken."""
    words = b"out of " + b"x" * 1_000 + b" order"
    endpoint.answers = [Answer(status, words, drip=16_384)]
    retries = RetryPolicy(max_attempts=1)
    with pytest.raises(GatorError) as caught:
        await ask(cloud_at(endpoint.base_url, retries=retries))
    assert not isinstance(caught.value, ProviderTimeout)
    assert len(caught.value.message) < 800
    assert endpoint.dripped < 1_000


async def test_an_error_is_read_up_to_the_limit_and_not_inflated(endpoint: Endpoint) -> None:
    long = refused(400, message="a rule: " + "y" * 60_000)
    endpoint.answers = [long]
    error = await fails(cloud_at(endpoint.base_url), ProviderError)
    assert "a rule: yyy" in error.message
    bomb = gzip.compress(gzip.compress(bytes(64 * 1024**2)))
    endpoint.answers = [Answer(400, bomb, {"content-encoding": "gzip, gzip"})]
    tracemalloc.start()
    try:
        await fails(cloud_at(endpoint.base_url), ProviderError)
        assert tracemalloc.get_traced_memory()[1] < 8 * 1024**2
    finally:
        tracemalloc.stop()


async def test_a_slow_endpoint_times_out_and_may_charge(endpoint: Endpoint) -> None:
    endpoint.answers = [Answer(slow_s=1.0)]
    cloud = cloud_at(
        endpoint.base_url, timeout_s=0.2, retries=RetryPolicy(max_attempts=2, first_delay_s=0.01)
    )
    error = await fails(cloud, ProviderTimeout)
    assert (error.details["attempts"], error.details["may_be_charged"]) == (2, True)


async def test_a_dripping_answer_times_out(endpoint: Endpoint) -> None:
    endpoint.answers = [endpoint.url_answer("/slow")]
    endpoint.files["/slow"] = Answer(slow_s=1.0, body=png())
    cloud = cloud_at(endpoint.base_url, timeout_s=0.3, retries=RetryPolicy(max_attempts=1))
    await fails(cloud, ProviderTimeout)


@pytest.mark.parametrize("as_date", [False, True])
async def test_a_wait_that_is_asked_for_is_kept(endpoint: Endpoint, as_date: bool) -> None:
    when = datetime.now(UTC) + timedelta(seconds=2)
    header = format_datetime(when, usegmt=True) if as_date else "1"
    endpoint.answers = [refused(429, retry_after=header), inline()]
    made = await ask(cloud_at(endpoint.base_url))
    assert made.receipt["attempts"] == 2
    assert endpoint.at[1] - endpoint.at[0] >= 0.9
    keys = {headers["idempotency-key"] for _, headers, _ in endpoint.asked}
    assert len(keys) == 1


async def test_a_wait_beyond_the_limit_is_told_and_not_begun(endpoint: Endpoint) -> None:
    endpoint.answers = [refused(429, retry_after="3600"), inline()]
    error = await fails(cloud_at(endpoint.base_url), ProviderRateLimited)
    assert (error.details["retry_after_s"], error.details["attempts"]) == (3600, 1)
    assert len(endpoint.asked) == 1


async def test_an_endpoint_that_says_whether_to_ask_again_is_believed(endpoint: Endpoint) -> None:
    endpoint.answers = [refused(500, x_should_retry="false")]
    assert (await fails(cloud_at(endpoint.base_url), ProviderError)).details["attempts"] == 1
    endpoint.answers = [refused(400, x_should_retry="true"), inline()]
    assert (await ask(cloud_at(endpoint.base_url))).receipt["attempts"] == 2


async def test_what_may_pass_is_tried_again_and_then_given_up(endpoint: Endpoint) -> None:
    endpoint.answers = [refused(500), refused(503), inline()]
    assert (await ask(cloud_at(endpoint.base_url))).receipt["attempts"] == 3
    endpoint.asked.clear()
    endpoint.answers = [refused(500, message="boom")]
    error = await fails(cloud_at(endpoint.base_url), ProviderError)
    assert "HTTP status 500" in error.message
    assert len(endpoint.asked) == 3


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (refused(400, "content_policy_violation"), ContentRejected),
        (refused(400, "moderation_blocked"), ContentRejected),
        (refused(400, None, "rejected as a result of our safety system"), ContentRejected),
        (refused(400, "invalid_size"), ProviderError),
        (refused(401, "invalid_api_key", "Incorrect API key: sk-mine"), ProviderNotConfigured),
        (refused(404, "model_not_found"), ProviderNotConfigured),
        (refused(429, "insufficient_quota"), ProviderRateLimited),
        (Answer(302, headers={"location": "http://10.0.0.1/"}), ProviderError),
        (Answer(200, b"<html>"), ProviderError),
        (said([]), ProviderError),
        (said({"data": []}), ProviderError),
        (said({"data": [{"b64_json": "!"}]}), ProviderError),
        (said({"data": [{"b64_json": 7, "url": {}}]}), ProviderError),
        (inline(b"GIF89a not a picture"), ProviderError),
        (inline(png()[:60]), ProviderError),
        (inline(b"<svg xmlns='http://www.w3.org/2000/svg'/>"), ProviderError),
    ],
)
async def test_what_will_not_pass_is_told_at_once(
    endpoint: Endpoint, answer: Answer, kind: type[GatorError]
) -> None:
    endpoint.answers = [answer]
    error = await fails(cloud_at(endpoint.base_url), kind)
    assert len(endpoint.asked) == 1
    assert "sk-mine" not in error.message


async def test_a_dead_endpoint_is_a_provider_error_that_costs_nothing() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
    error = await fails(cloud_at(url), ProviderError)
    assert error.details["may_be_charged"] is False
    assert error.details["attempts"] == 3


def test_retry_after_is_read_as_seconds_and_as_a_date() -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    assert retry_after("7", now) == 7
    assert retry_after("Thu, 01 Jan 2026 00:00:30 GMT", now) == 30
    assert retry_after("Thu, 01 Jan 2015 00:00:30 GMT", now) == 0
    for unreadable in (None, "", "soon", "-1", "1.5x", "Thu, 99 Foo 2026", "٣"):
        assert retry_after(unreadable, now) is None


def test_pauses_grow_with_jitter_and_never_undercut_what_was_asked() -> None:
    chance, policy = random.Random(7), RetryPolicy()
    for attempt, whole in ((1, 0.5), (2, 1.0), (3, 2.0), (9, 8.0)):
        pauses = {policy.delay_s(attempt, None, chance) for _ in range(50)}
        assert len(pauses) == 50
        assert whole / 2 <= min(pauses) <= max(pauses) <= whole
    assert all(policy.delay_s(1, 3.0, chance) >= 3.0 for _ in range(50))


@pytest.mark.parametrize(
    ("text", "public"),
    [
        ("93.184.216.34", True),
        ("2606:4700::1111", True),
        ("10.1.2.3", False),
        ("169.254.169.254", False),
        ("100.64.0.1", False),
        ("224.0.0.1", False),
        ("0.0.0.0", False),
        ("::1", False),
        ("fe80::1", False),
        ("fd00::1", False),
        ("::ffff:10.0.0.1", False),
        ("64:ff9b::a00:1", False),
        ("64:ff9b::5db8:d822", True),
        ("2002:a00:1::", False),
    ],
)
def test_private_addresses_are_known_in_every_wrapping(text: str, public: bool) -> None:
    assert is_public(ipaddress.ip_address(text)) is public


def metered(
    database: Database, endpoint: Endpoint, cap: str | None, price: str = "0.04"
) -> tuple[MeteredImages, CloudSpending]:
    spending = CloudSpending(
        database, price_usd=Decimal(price), cap_usd=None if cap is None else Decimal(cap)
    )
    return MeteredImages(cloud_at(endpoint.base_url), spending), spending


async def test_the_cap_is_kept_by_many_at_once(database: Database, endpoint: Endpoint) -> None:
    endpoint.answers = [inline()]
    cloud, spending = metered(database, endpoint, "0.20")
    request = ImageRequest.from_call("a harbour", {"seed": 7})
    results = await asyncio.gather(
        *(cloud.generate(request, cloud.cards()[0]) for _ in range(12)), return_exceptions=True
    )
    await cloud.close()
    made = [one for one in results if isinstance(one, GeneratedImage)]
    refusals = [one for one in results if isinstance(one, SpendingCapReached)]
    assert (len(made), len(refusals), len(endpoint.asked)) == (5, 7, 5)
    assert made[0].receipt["cost_usd"] == "0.04"
    assert refusals[0].http_status == 402
    report = await spending.report()
    assert (report.spent_usd, report.reserved_usd) == (Decimal("0.2"), 0)
    assert (report.images, report.allowed) == (5, False)


async def test_what_was_not_made_is_given_back_and_what_may_be_charged_is_counted(
    database: Database, endpoint: Endpoint
) -> None:
    cloud, spending = metered(database, endpoint, "1")
    endpoint.answers = [refused(400, "content_policy_violation")]
    await fails(cloud, ContentRejected)
    assert (await spending.report()).spent_usd == 0
    endpoint.answers = [inline(b"no picture, but made")]
    await fails(cloud, ProviderError)
    report = await spending.report(count=3)
    assert (report.spent_usd, report.reserved_usd) == (Decimal("0.04"), 0)
    assert (report.estimated_usd, report.allowed) == (Decimal("0.12"), True)


async def test_a_call_that_is_cut_off_counts_as_spent(
    database: Database, endpoint: Endpoint
) -> None:
    endpoint.answers = [Answer(slow_s=1.0)]
    cloud, spending = metered(database, endpoint, None)
    task = asyncio.create_task(ask(cloud))
    async with asyncio.timeout(10):
        while not endpoint.asked:  # noqa: ASYNC110 - it is another thread that fills it
            await asyncio.sleep(0.01)
    assert (await spending.report()).reserved_usd == Decimal("0.04")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    report = await spending.report()
    assert (report.spent_usd, report.reserved_usd) == (Decimal("0.04"), 0)


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.at = datetime(2026, 11, 10, 12, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.at


async def test_a_call_whose_process_was_killed_counts_for_its_lease_and_is_noted(
    database: Database,
) -> None:
    clock, lease = Clock(), timedelta(minutes=10)
    ledger: dict[str, Any] = {
        "price_usd": Decimal("0.04"), "cap_usd": Decimal("0.08"), "lease": lease, "clock": clock,
    }  # fmt: skip
    killed = CloudSpending(database, **ledger)
    await killed.reserve()
    clock.at += timedelta(minutes=4)
    await killed.reserve()
    spending = CloudSpending(database, **ledger)
    with pytest.raises(SpendingCapReached):
        await spending.reserve()
    clock.at += lease - timedelta(minutes=3)  # the first one's lease has run out
    before = await spending.report()
    assert (before.reserved_usd, before.lapsed_usd) == (Decimal("0.04"), Decimal("0.04"))
    assert before.allowed
    third = await spending.reserve()
    after = await spending.report()
    assert (after.reserved_usd, after.lapsed_usd) == (Decimal("0.08"), Decimal("0.04"))
    with pytest.raises(SpendingCapReached):
        await spending.reserve()
    await spending.close(third, charged=True)
    clock.at += lease
    last = await spending.report()
    assert (last.spent_usd, last.reserved_usd) == (Decimal("0.04"), 0)
    assert (last.lapsed_usd, last.images) == (Decimal("0.08"), 1)


@pytest.mark.parametrize("charged", [True, False])
async def test_a_call_that_ends_after_its_lease_is_still_counted(
    database: Database, charged: bool
) -> None:
    clock = Clock()
    spending = CloudSpending(
        database, price_usd=Decimal("0.04"), cap_usd=None, lease=timedelta(seconds=9), clock=clock
    )
    slow = await spending.reserve()
    clock.at += timedelta(minutes=1)
    await spending.close(await spending.reserve(), charged=False)
    assert (await spending.report()).lapsed_usd == Decimal("0.04")
    await spending.close(slow, charged=charged)
    report = await spending.report()
    assert (report.lapsed_usd, report.reserved_usd) == (0, 0)
    assert (report.spent_usd, report.images) == (Decimal("0.04") * charged, int(charged))


def test_a_lease_is_longer_than_any_call() -> None:
    settings = load_settings(cloud_timeout_s=100, cloud_max_attempts=3)
    policy = RetryPolicy(max_attempts=3)
    pause_s = policy.delay_s(9, policy.max_retry_after_s, random.Random(1))
    assert longest_call(settings).total_seconds() > 2 * 3 * (100 + pause_s)


def test_a_cap_needs_a_price() -> None:
    with pytest.raises(ConfigurationError, match="GATOR_CLOUD_SPENDING_CAP_USD"):
        load_settings(cloud_spending_cap_usd="5")
    assert load_settings(cloud_price_usd="0.04", cloud_spending_cap_usd="5").public()


async def test_a_manager_without_a_ledger_does_not_pass_a_cap(
    endpoint: Endpoint, tmp_path: Path
) -> None:
    endpoint.answers = [inline()]
    values: dict[str, Any] = {"cloud_base_url": endpoint.base_url, "cloud_model": "cloudy"}
    capped = values | {"cloud_price_usd": "0.04", "cloud_spending_cap_usd": "5"}
    async with AIModelManager(Settings(**capped)) as manager:
        with pytest.raises(GatorError, match="cloudy"):
            await manager.generate_image("a harbour", model="cloudy")
    assert endpoint.asked == []
    async with AIModelManager(Settings(**values)) as manager:
        made = await manager.generate_image("a harbour", model="cloudy")
    assert made["image_data"] == png()


async def test_what_was_reserved_before_there_were_leases_counts_as_lapsed(
    database_url: str,
) -> None:
    opened = Database(database_url)
    await upgrade(opened, "0005")
    async with opened.write() as session:
        await session.execute(
            text(
                "INSERT INTO cloud_spending VALUES ('2026-11', 80000, 40000, 1, CURRENT_TIMESTAMP)"
            )
        )
    await upgrade(opened)
    spending = CloudSpending(opened, price_usd=Decimal("0.04"), cap_usd=None, clock=Clock())
    report = await spending.report()
    assert (report.spent_usd, report.reserved_usd) == (Decimal("0.04"), 0)
    assert report.lapsed_usd == Decimal("0.08")
    await downgrade(opened, "0005")
    await upgrade(opened)
    assert (await spending.report()).spent_usd == Decimal("0.04")
    await opened.close()
