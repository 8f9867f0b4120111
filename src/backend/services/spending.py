"""What cloud images cost: an estimate beforehand, and a cap that no call passes.

The price of an image is set aside before the call, in the same transaction that compares the
month's sum with the cap. After the call it counts as spent, or is given back where the provider
cannot have charged for it. A process that ends in between leaves it set aside; it counts against
the cap for as long as the call could have lasted, and then as lapsed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import ROUND_CEILING, Decimal
from typing import Self

from backend.config import Settings
from backend.database.engine import Database
from backend.errors import GatorError, ProviderNotConfigured, SpendingCapReached
from backend.imaging.cloud.openai_images import OpenAIImages
from backend.imaging.cloud.retrying import RetryPolicy
from backend.imaging.types import GeneratedImage, ImageBackend, ImageRequest, ModelCard, OnStep
from backend.logs import get_logger
from backend.models.base import now
from backend.models.spending import CloudSpendingResponse
from backend.repositories.spending import SpendingRepository

MICRO = 1_000_000

log = get_logger(__name__)


class CloudSpending:
    """The ledger of one studio.

    Args:
        database: where the sums are kept.
        price_usd: of one image; nothing is counted where it is unknown.
        cap_usd: of a calendar month in UTC; `None` for no cap.
        lease: how long a call may last; then it counts as one whose process has ended.
        clock: tells the time.
    """

    def __init__(
        self,
        database: Database,
        *,
        price_usd: Decimal | None,
        cap_usd: Decimal | None,
        lease: timedelta = timedelta(hours=1),
        clock: Callable[[], datetime] = now,
    ) -> None:
        self._database = database
        self._price_usd = price_usd
        self._cap_usd = cap_usd
        self._lease = lease
        self._clock = clock

    @classmethod
    def of(cls, settings: Settings, database: Database) -> Self:
        """Build the ledger of the configured cloud."""
        return cls(
            database,
            price_usd=settings.cloud_price_usd,
            cap_usd=settings.cloud_spending_cap_usd,
            lease=longest_call(settings),
        )

    @property
    def price_microusd(self) -> int:
        """The price of an image, rounded up to a millionth of a dollar; 0 where unknown."""
        return _micro(self._price_usd or Decimal(0))

    async def report(self, count: int = 1) -> CloudSpendingResponse:
        """Return the month's sums, and what `count` more images would cost.

        Raises:
            StorageError: the database does not answer.
        """
        at = self._clock()
        month = _month(at)
        async with self._database.read() as session:
            sums = await SpendingRepository(session).sums(month, at)
        wanted = count * self.price_microusd
        used = sums.spent + sums.reserved
        return CloudSpendingResponse(
            month=month,
            images=sums.images,
            spent_usd=_usd(sums.spent),
            reserved_usd=_usd(sums.reserved),
            lapsed_usd=_usd(sums.lapsed),
            price_usd=self._price_usd,
            cap_usd=self._cap_usd,
            estimated_usd=None if self._price_usd is None else _usd(wanted),
            allowed=self._cap_usd is None or used + wanted <= _micro(self._cap_usd),
        )

    async def check(self, count: int) -> None:
        """Refuse beforehand what the cap would not let through.

        Raises:
            SpendingCapReached: with the estimate and what is left.
        """
        report = await self.report(count)
        if not report.allowed:
            raise _reached(report)

    async def reserve(self) -> str:
        """Set the price of one image aside; return what `close` has to be told.

        Raises:
            SpendingCapReached: the month's cap would be passed; nothing was set aside.
        """
        at = self._clock()
        month = _month(at)
        cap = None if self._cap_usd is None else _micro(self._cap_usd)
        async with self._database.write() as session:
            ledger = SpendingRepository(session)
            lapsed = await ledger.lapse(month, at)
            reservation = await ledger.reserve(month, self.price_microusd, cap, at, self._lease)
        if lapsed:
            log.warning("spending.lapsed", month=month, calls=lapsed)
        if reservation is None:
            raise _reached(await self.report())
        return reservation

    async def close(self, reservation: str, *, charged: bool) -> None:
        """Count what was set aside as spent, or give it back."""
        async with self._database.write() as session:
            await SpendingRepository(session).close(reservation, charged=charged)


class MeteredImages:
    """A cloud whose every image is counted, and refused where the cap would be passed."""

    def __init__(self, cloud: ImageBackend, spending: CloudSpending) -> None:
        self._cloud = cloud
        self._spending = spending

    def cards(self) -> Sequence[ModelCard]:
        """List the cloud's models."""
        return self._cloud.cards()

    async def generate(
        self, request: ImageRequest, card: ModelCard, on_step: OnStep | None = None
    ) -> GeneratedImage:
        """Have one image made; the receipt says what it cost.

        Raises:
            SpendingCapReached: the cap would be passed; the cloud was not called.
            GatorError: the cloud failed.
        """
        reservation = await self._spending.reserve()
        charged = True
        try:
            image = await self._cloud.generate(request, card, on_step)
        except GatorError as exc:
            charged = bool(exc.details.get("may_be_charged"))
            raise
        finally:
            await asyncio.shield(self._spending.close(reservation, charged=charged))
        cost = str(_usd(self._spending.price_microusd))
        return replace(image, receipt={**image.receipt, "cost_usd": cost})

    async def close(self) -> None:
        """Close the cloud's connections."""
        await self._cloud.close()


class UncountedImages:
    """A cloud that has a cap but no ledger to keep it with, and so makes nothing."""

    def __init__(self, cloud: ImageBackend) -> None:
        self._cloud = cloud

    def cards(self) -> Sequence[ModelCard]:
        """List the cloud's models as not usable."""
        return [replace(card, loaded=False) for card in self._cloud.cards()]

    async def generate(
        self,
        request: ImageRequest,
        card: ModelCard,
        on_step: OnStep | None = None,  # noqa: ARG002 - nothing is made
    ) -> GeneratedImage:
        """Refuse.

        Raises:
            ProviderNotConfigured: always.
        """
        raise ProviderNotConfigured(
            f"{card.name} is not asked for {request.seed}: GATOR_CLOUD_SPENDING_CAP_USD is set, "
            "and only a studio, which has a database, can keep to it."
        )

    async def close(self) -> None:
        """Close the cloud's connections."""
        await self._cloud.close()


def clouds(settings: Settings, spending: CloudSpending | None = None) -> tuple[ImageBackend, ...]:
    """Build the configured clouds; without a ledger, one that has a cap is not used."""
    if not settings.cloud_base_url or not settings.cloud_model:
        return ()
    cloud = OpenAIImages.from_settings(settings)
    if spending is None:
        return (cloud if settings.cloud_spending_cap_usd is None else UncountedImages(cloud),)
    if settings.cloud_price_usd is None:
        return (cloud,)
    return (MeteredImages(cloud, spending),)


def _reached(report: CloudSpendingResponse) -> SpendingCapReached:
    used = report.spent_usd + report.reserved_usd
    return SpendingCapReached(
        f"{report.month}: {used} of {report.cap_usd} US dollars are spent or set aside, and this "
        f"would cost {report.estimated_usd} more. Raise GATOR_CLOUD_SPENDING_CAP_USD or wait for "
        "the next month.",
        report.model_dump(mode="json", exclude={"allowed"}),
    )


def longest_call(settings: Settings) -> timedelta:
    """Return how long an image may take: all attempts to have it made, and all to fetch it."""
    retries = RetryPolicy(max_attempts=settings.cloud_max_attempts)
    pause_s = 1.1 * retries.max_retry_after_s + retries.max_delay_s
    attempt_s = settings.cloud_timeout_s + pause_s
    return timedelta(seconds=2 * retries.max_attempts * attempt_s)


def _month(at: datetime) -> str:
    return f"{at:%Y-%m}"


def _micro(usd: Decimal) -> int:
    return int((usd * MICRO).to_integral_value(ROUND_CEILING))


def _usd(micro: int) -> Decimal:
    return Decimal(micro) / MICRO
