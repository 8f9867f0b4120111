"""Any OpenAI-compatible images endpoint, through the vendor's own SDK."""

from __future__ import annotations

import base64
import binascii
import io
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Self

from PIL import Image, UnidentifiedImageError

from backend.config import Settings
from backend.errors import (
    GatorError,
    ProviderError,
    ProviderNotConfigured,
    ProviderRateLimited,
    ProviderTimeout,
    UnsupportedTask,
)
from backend.imaging.types import GeneratedImage, ImageRequest, ModelCard

if TYPE_CHECKING:
    from openai import APIError, AsyncOpenAI

MAX_IMAGE_BYTES = 64 * 1024**2
MAX_PIXELS = 40_000_000
_LOCAL_ONLY = ("num_inference_steps", "guidance_scale", "scheduler", "negative_prompt")


class OpenAIImages:
    """One image model at one endpoint.

    The SDK is imported, and the connection made, with the first image.
    """

    def __init__(
        self, *, base_url: str, api_key: str, model: str, timeout_s: float, provider: str = "openai"
    ) -> None:
        self._base_url = base_url
        self._api_key = api_key
        self._timeout_s = timeout_s
        self._client: AsyncOpenAI | None = None
        self._card = ModelCard(
            name=model,
            provider=provider,
            kind="cloud",
            engine="",
            source=model,
            width=1024,
            height=1024,
            max_side=4096,
        )

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        """Build the client of the configured endpoint.

        Raises:
            ProviderNotConfigured: no endpoint, or no model, is set.
        """
        if not settings.cloud_base_url or not settings.cloud_model:
            raise ProviderNotConfigured("set GATOR_CLOUD_BASE_URL and GATOR_CLOUD_MODEL.")
        key = settings.cloud_api_key
        return cls(
            base_url=settings.cloud_base_url,
            api_key=key.get_secret_value() if key else "none",
            model=settings.cloud_model,
            timeout_s=settings.cloud_timeout_s,
        )

    def cards(self) -> Sequence[ModelCard]:
        """List the one model."""
        return (self._card,)

    async def generate(self, request: ImageRequest, card: ModelCard) -> GeneratedImage:
        """Have one image made at the endpoint.

        The seed is not sent, since the images API has none: the result carries the request's,
        and the receipt says that it had no say.

        Raises:
            UnsupportedTask: the request sets something that the images API does not have.
            ProviderTimeout, ProviderRateLimited, ProviderError: the endpoint failed.
        """
        import openai

        _refuse_local_options(request)
        width, height = request.width or card.width, request.height or card.height
        prompt = ", ".join(filter(None, (request.appearance.strip(), request.prompt)))
        started = time.perf_counter()
        try:
            answer = await self._connect().images.generate(
                model=card.source,
                prompt=prompt,
                n=1,
                size=f"{width}x{height}",
            )
        except openai.APIError as exc:
            raise _translated(exc, self._base_url) from exc
        data = _decoded(answer)
        file_format, width, height = _measured(data)
        return GeneratedImage(
            image_data=data,
            format=file_format,
            width=width,
            height=height,
            model=card.name,
            provider=card.provider,
            seed=request.seed,
            kind="cloud",
            device=card.provider,
            seconds={"render": round(time.perf_counter() - started, 4)},
            receipt={"model": card.name, "prompt": prompt, "seed_used": False},
        )

    async def close(self) -> None:
        """Close the connection."""
        if self._client:
            await self._client.close()
            self._client = None

    def _connect(self) -> AsyncOpenAI:
        if self._client is None:
            from openai import AsyncOpenAI

            self._client = AsyncOpenAI(
                base_url=self._base_url, api_key=self._api_key, timeout=self._timeout_s
            )
        return self._client


def _refuse_local_options(request: ImageRequest) -> None:
    given = [name for name in _LOCAL_ONLY if getattr(request, name) is not None]
    if given:
        raise UnsupportedTask(
            f"a cloud images endpoint does not take {', '.join(given)}; leave it out or name a "
            "local model.",
            {"options": given},
        )


def _translated(exc: APIError, base_url: str) -> GatorError:
    import openai

    where = {"base_url": base_url}
    if isinstance(exc, openai.APITimeoutError):
        return ProviderTimeout(f"{base_url} did not answer in time.", where)
    if isinstance(exc, openai.RateLimitError):
        wait = exc.response.headers.get("retry-after")
        return ProviderRateLimited(f"{base_url} asks to wait.", {**where, "retry_after_s": wait})
    return ProviderError(f"{base_url} failed: {exc.message}", where)


def _decoded(answer: Any) -> bytes:
    encoded = answer.data[0].b64_json if answer.data else None
    if not encoded:
        raise ProviderError(
            "the endpoint answered without b64_json; configure it to return images inline."
        )
    if len(encoded) > MAX_IMAGE_BYTES * 4 // 3 + 4:
        raise ProviderError(f"the endpoint sent more than {MAX_IMAGE_BYTES // 1024**2} MiB.")
    try:
        return base64.b64decode(encoded, validate=True)
    except binascii.Error as exc:
        raise ProviderError(f"the endpoint's b64_json is not base64: {exc}") from exc


def _measured(data: bytes) -> tuple[str, int, int]:
    """Read format and size from the header; nothing is decoded before its size is bounded."""
    try:
        with Image.open(io.BytesIO(data), formats=("PNG", "JPEG", "WEBP")) as image:
            width, height = image.size
            if width * height > MAX_PIXELS:
                raise ProviderError(f"the endpoint sent {width}x{height} pixels, too many.")
            image.load()
            return str(image.format).lower(), width, height
    except (UnidentifiedImageError, OSError, SyntaxError) as exc:
        raise ProviderError(f"the endpoint sent no PNG, JPEG or WebP: {exc}") from exc
