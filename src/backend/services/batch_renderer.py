"""One item: draw it, keep its bytes, and say how that ended.

What may pass is tried again; what no attempt can mend pauses the batch, with the reason in words,
and costs the item nothing.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from backend.errors import AllDevicesLost, GatorError, SpendingCapReached, StorageError
from backend.imaging.devices import Device
from backend.imaging.types import ModelCard
from backend.logs import get_logger
from backend.models.batch import MICRO, ItemState
from backend.repositories.claims import Ended, Try
from backend.services.ai_models import AIModelManager
from backend.services.batch_ledger import BatchLedger, Order, described
from backend.services.content_rows import content_values
from backend.services.spending import CloudSpending
from backend.storage.blobs import BlobStore

FAILURES = 2
"""How often an item may fail for a reason that may pass."""

STORE_DELAYS_S = (0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0)
"""Pauses before a picture is kept again that the storage did not take; then the batch pauses."""

STOPPED = {"code": "stopped", "message": "the process was told to stop"}

log = get_logger(__name__)


class _Halt(Exception):
    """The batch cannot go on, for this reason; the item itself has not failed."""


class BatchRenderer:
    """Draws orders.

    Args:
        models: who draws.
        blobs: where pictures are kept.
        spending: knows what a cloud's picture costs.
        ledger: sets money aside.
        store_delays_s: the pauses between attempts at keeping a picture.
    """

    def __init__(
        self,
        models: AIModelManager,
        blobs: BlobStore,
        spending: CloudSpending,
        ledger: BatchLedger,
        *,
        store_delays_s: Sequence[float] = STORE_DELAYS_S,
    ) -> None:
        self._models = models
        self._blobs = blobs
        self._spending = spending
        self._ledger = ledger
        self._store_delays_s = store_delays_s
        self.waiting_for_storage = 0

    async def render(self, order: Order, devices: Sequence[Device]) -> Ended:
        """Draw one item; whatever happens is an outcome.

        Args:
            order: what to draw.
            devices: the machine's; the item's home is the one at its position.
        """
        try:
            result, cost = await self._draw(order, devices)
            began = time.perf_counter()
            sha256 = await self._store(result["image_data"])
            self._models.note_seconds({"store": time.perf_counter() - began})
        except _Halt as exc:
            error = {"code": "halted", "message": str(exc)}
            return Ended(order.item, ItemState.QUEUED, (Try(None, error),), pause=str(exc))
        except Exception as exc:  # noqa: BLE001 - the edge of a batch item
            return failure(order, exc)
        tries = (*_earlier(result), Try(result["device"], None))
        content = content_values(
            result,
            sha256,
            prompt=order.item.prompt,
            persona_id=order.batch.persona_id,
            base_version=order.batch.base_version,
        )
        return Ended(order.item, ItemState.DONE, tries, content, cost_microusd=cost)

    async def _draw(self, order: Order, devices: Sequence[Device]) -> tuple[dict[str, Any], int]:
        """Have the picture made; return it, and its price where that was not set aside."""
        home = devices[order.item.position % len(devices)].device_id
        options = {**order.options, "priority": order.batch.priority, "seed": order.item.seed}
        if order.kind == "cloud":
            return await self._draw_paid(order, options)
        try:
            made = await self._models.generate_image(
                order.item.prompt, **{"device_id": home, **options}
            )
        except AllDevicesLost as exc:
            if not order.batch.allow_cloud:
                raise _Halt(exc.message) from exc
            return await self._draw_in_the_cloud(order, options, exc)
        return made, 0

    async def _draw_in_the_cloud(
        self, order: Order, options: Mapping[str, Any], lost: AllDevicesLost
    ) -> tuple[dict[str, Any], int]:
        """Have a cloud draw what no device is left for; the batch's owner has consented."""
        card = self._cloud_card()
        if card is None:
            raise _Halt(f"{lost.message} The batch allows a cloud, but none is configured.")
        log.warning("batch.cloud", model=card.name, reason=lost.message)
        own = order.batch.options.get("negative_prompt")
        changed = {**options, "model": card.name, "negative_prompt": own}
        return await self._draw_paid(order, changed)

    async def _draw_paid(
        self, order: Order, options: Mapping[str, Any]
    ) -> tuple[dict[str, Any], int]:
        """Have a cloud draw within the batch's cap."""
        cap, price = order.batch.cloud_cap_usd, self._spending.price_microusd
        if cap is not None:
            await self._reserve(order, price, cap)
        charged = True
        try:
            made = await self._models.generate_image(order.item.prompt, **options)
        except SpendingCapReached as exc:
            charged = False
            raise _Halt(exc.message) from exc
        except GatorError as exc:
            charged = bool(exc.details.get("may_be_charged"))
            raise
        finally:
            if cap is not None and not charged:
                await asyncio.shield(self._ledger.reserve(order.batch.id, -price))
        cost = made["receipt"].get("cost_usd")
        return made, 0 if cap is not None or cost is None else int(Decimal(cost) * MICRO)

    async def _reserve(self, order: Order, price: int, cap: Decimal) -> None:
        if not price:
            raise _Halt(
                f"the batch may cost {cap} US dollars, but nobody knows what a picture costs: "
                "set GATOR_CLOUD_PRICE_USD."
            )
        if not await self._ledger.reserve(order.batch.id, price):
            raise _Halt(
                f"another picture in the cloud, at {Decimal(price) / MICRO} US dollars, would pass "
                f"the batch's cap of {cap}."
            )

    def _cloud_card(self) -> ModelCard | None:
        cards = self._models.cards()
        return next((card for card in cards if card.kind == "cloud" and card.loaded), None)

    async def _store(self, image: bytes) -> str:
        """Keep a picture's bytes, trying for a while where the storage does not take them."""
        try:
            return await self._blobs.put(image)
        except StorageError as exc:
            reason = exc
        self.waiting_for_storage += 1
        try:
            for delay_s in self._store_delays_s:
                log.warning("batch.storage", reason=reason.message, again_in_s=delay_s)
                await asyncio.sleep(delay_s)
                try:
                    return await self._blobs.put(image)
                except StorageError as exc:
                    reason = exc
        finally:
            self.waiting_for_storage -= 1
        raise _Halt(reason.message) from reason


def failure(order: Order, error: Exception) -> Ended:
    """Return the outcome of an attempt that failed: again, where that may help, or the end."""
    passing, tries = False, [Try(None, described(error))]
    if isinstance(error, GatorError):
        by_pool = _earlier(error.details)
        # A pool that has tried several devices itself gains nothing from being asked again.
        passing = error.retryable and not by_pool and order.item.failures + 1 < FAILURES
        if by_pool:
            tries = [*by_pool[:-1], replace(by_pool[-1], error=described(error))]
    state = ItemState.QUEUED if passing else ItemState.FAILED
    return Ended(order.item, state, tries, counts=True)


def stopped(order: Order) -> Ended:
    """Return the outcome of an attempt that was broken off; it counts for nothing."""
    return Ended(order.item, ItemState.QUEUED, (Try(None, STOPPED),))


def _earlier(told: Mapping[str, Any]) -> tuple[Try, ...]:
    """Return the attempts that the pool tells of, each on a device of its own."""
    return tuple(
        Try(
            one["device"],
            {"code": one["code"], "message": one["message"]},
            datetime.fromtimestamp(one["started"], UTC),
            datetime.fromtimestamp(one["ended"], UTC),
        )
        for one in told.get("attempts", ())
    )
