"""Make a finished picture again from its receipt, and say whether the bytes are the same.

The receipt holds the request as the engine had it, so a persona that was changed since makes no
difference. What may make one is told: another version of a library, another device or model.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from backend.errors import Conflict, NotFound
from backend.models.content import ContentModel
from backend.services.ai_models import AIModelManager
from backend.services.content_service import ContentService
from backend.storage.blobs import BlobStore

WATCHED = (
    "model_fingerprint",
    "pipeline",
    "scheduler",
    "dtype",
    "torch_threads",
    "versions",
    "micro_batch",
    "relief",
    "device",
)
"""The parts of a receipt that bytes may depend on beside the request."""


@dataclass(frozen=True, slots=True)
class Reproduction:
    """How a second making went.

    Attributes:
        matches: whether the bytes are those of the first.
        differences: what differs in how it was made, as (then, now) by name.
        image_data: the new bytes.
    """

    content_id: str
    matches: bool
    sha256: str
    sha256_now: str
    device: str
    device_now: str
    differences: Mapping[str, tuple[Any, Any]]
    image_data: bytes

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON values, without the bytes."""
        return {
            "content_id": self.content_id,
            "matches": self.matches,
            "sha256": self.sha256,
            "sha256_now": self.sha256_now,
            "device": self.device,
            "device_now": self.device_now,
            "differences": {name: list(pair) for name, pair in self.differences.items()},
        }


class ReproductionService:
    """Renders pictures a second time; keeps nothing of it."""

    def __init__(self, contents: ContentService, blobs: BlobStore, models: AIModelManager) -> None:
        self._contents = contents
        self._blobs = blobs
        self._models = models

    async def reproduce(self, content_id: str) -> Reproduction:
        """Make a picture again, by itself.

        Raises:
            NotFound: there is no such content, or its reference is gone.
            Conflict: its receipt does not tell how it was made, such as a cloud's.
            ModelNotAvailable: the model is not here any more.
            GatorError: whatever the engine reports.
        """
        content = await self._contents.get(content_id)
        made = await self._models.generate_image(**await self._request(content))
        sha256 = hashlib.sha256(made["image_data"]).hexdigest()
        return Reproduction(
            content_id=content.id,
            matches=sha256 == content.sha256,
            sha256=content.sha256,
            sha256_now=sha256,
            device=content.device,
            device_now=made["device"],
            differences=_differences(content.receipt, made["receipt"]),
            image_data=made["image_data"],
        )

    async def _request(self, content: ContentModel) -> dict[str, Any]:
        request = dict(content.receipt.get("request") or {})
        if not request:
            raise Conflict(
                f"the receipt of {content.id} does not hold the request it was made from; pictures "
                "of clouds, and those made before receipts held it, cannot be made again.",
                {"content": content.id, "provider": content.provider},
            )
        if sha256 := request.pop("reference_sha256", None):
            if not await self._blobs.exists(sha256):
                raise NotFound(
                    f"the picture that {content.id} started from is gone.", {"sha256": sha256}
                )
            request["reference"] = await self._blobs.get(sha256)
        return {**request, "model": content.model}


def _differences(then: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    return {
        name: (then.get(name), now.get(name)) for name in WATCHED if then.get(name) != now.get(name)
    }
