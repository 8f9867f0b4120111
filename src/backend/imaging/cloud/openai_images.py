"""Any OpenAI-compatible images endpoint, through the vendor's own SDK."""

from __future__ import annotations

import asyncio
import hashlib
import ssl
import time
import uuid
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any, Self

from backend.config import Settings
from backend.errors import ProviderError, ProviderNotConfigured, UnsupportedTask
from backend.imaging.cloud.retrying import RetryPolicy, retried
from backend.imaging.pictures.container import MIMES, signature
from backend.imaging.types import GeneratedImage, ImageRequest, ModelCard, OnStep

if TYPE_CHECKING:
    from openai import AsyncAPIResponse, AsyncOpenAI
    from openai.types import ImagesResponse

AUTO = "auto"
_LOCAL_ONLY = (
    "num_inference_steps",
    "guidance_scale",
    "scheduler",
    "negative_prompt",
    "strength",
    "adapters",
)


class OpenAIImages:
    """One image model at one endpoint.

    The SDK is imported, and the connection made, with the first image.

    Args:
        base_url: the endpoint, up to and including its version.
        api_key: sent to that endpoint alone.
        model: the image model's name there.
        timeout_s: seconds one attempt may take.
        provider: what results call it.
        image_hosts: hosts beside the endpoint's own from which a picture may be fetched.
        retries: how often and when to ask again.
        size: what is asked for where a request names no size, `auto` for the endpoint's choice.
        tls: whom to trust when fetching a picture; the public authorities where left out.
    """

    def __init__(
        self,
        *,
        base_url: str,
        api_key: str,
        model: str,
        timeout_s: float,
        provider: str = "openai",
        image_hosts: tuple[str, ...] = (),
        retries: RetryPolicy | None = None,
        size: str = "1024x1024",
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._base_url = base_url
        self._api_key = api_key
        self._timeout_s = timeout_s
        self._image_hosts = image_hosts
        self._retries = retries or RetryPolicy()
        self._tls = tls
        self._size = size
        self._client: AsyncOpenAI | None = None
        width, height = (1024, 1024) if size == AUTO else map(int, size.split("x"))
        self._card = ModelCard(
            name=model,
            provider=provider,
            kind="cloud",
            engine="",
            source=model,
            width=width,
            height=height,
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
            image_hosts=settings.cloud_image_hosts,
            retries=RetryPolicy(max_attempts=settings.cloud_max_attempts),
            size=settings.cloud_size,
        )

    def cards(self) -> Sequence[ModelCard]:
        """List the one model."""
        return (self._card,)

    async def generate(
        self,
        request: ImageRequest,
        card: ModelCard,
        on_step: OnStep | None = None,  # noqa: ARG002 - the answer comes in one piece
    ) -> GeneratedImage:
        """Have one image made at the endpoint.

        All attempts carry one `Idempotency-Key`, so that an endpoint that knows it makes, and
        charges for, one picture. The seed is not sent, since the images API has none: the result
        carries the request's, and the receipt says that it had no say. With a reference it is the
        edits endpoint that is asked, and the picture is sent along.

        Raises:
            UnsupportedTask: the request sets something that the images API does not have.
            ContentRejected: the provider's policy refuses the prompt.
            ProviderTimeout, ProviderRateLimited, ProviderNotConfigured, ProviderError: the
                endpoint failed; `details["may_be_charged"]` says whether a bill may come.
        """
        from backend.imaging.cloud.answers import measured, picture_of

        _refuse_local_options(request)
        prompt = ", ".join(filter(None, (request.appearance.strip(), request.prompt)))
        started = time.perf_counter()
        key = str(uuid.uuid4())
        body, attempts = await retried(
            lambda: self._ask(
                card.source, prompt, self._size_of(request, card), request.reference, key
            ),
            self._retries,
        )
        data, url, usage = picture_of(body)
        if data is None:
            data = await self._fetch(str(url))
        file_format, width, height = await asyncio.to_thread(measured, data)
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
            receipt={
                "model": card.name,
                "prompt": prompt,
                "seed_used": False,
                "attempts": attempts,
                "answered_with": "url" if url else "b64_json",
                **({"usage": usage} if usage else {}),
                **_reference_receipt(request),
            },
        )

    async def close(self) -> None:
        """Close the connection."""
        if self._client:
            await self._client.close()
            self._client = None

    def _size_of(self, request: ImageRequest, card: ModelCard) -> dict[str, str]:
        """Return the size to ask for; nothing where it is the endpoint's to choose."""
        if self._size == AUTO and not (request.width or request.height):
            return {}
        width, height = request.width or card.width, request.height or card.height
        return {"size": f"{width}x{height}"}

    async def _ask(
        self, model: str, prompt: str, size: Mapping[str, str], reference: bytes | None, key: str
    ) -> bytes:
        """Make one attempt; return the body of the answer, read up to the limit."""
        import openai
        from httpx2 import RequestError

        from backend.imaging.cloud.answers import CHARGED, MAX_ANSWER_BYTES, place_of, translated

        body = bytearray()
        try:
            async with (
                asyncio.timeout(self._timeout_s),
                self._call(
                    reference,
                    model=model,
                    prompt=prompt,
                    n=1,
                    **size,
                    extra_headers={"Idempotency-Key": key},
                ) as response,
            ):
                async for piece in response.iter_bytes():
                    body += piece
                    if len(body) > MAX_ANSWER_BYTES:
                        where = place_of(self._base_url)
                        raise ProviderError(f"{where} sent more than an image can be.", CHARGED)
                if not 200 <= response.status_code < 300:
                    raise ProviderError(
                        f"{place_of(self._base_url)} redirects elsewhere (HTTP status "
                        f"{response.status_code}); set GATOR_CLOUD_BASE_URL to where it leads."
                    )
        except openai.APIError as exc:
            raise translated(exc, self._base_url) from exc
        except TimeoutError as exc:
            request = openai.APITimeoutError(request=None)  # type: ignore[arg-type]
            raise translated(request, self._base_url) from exc
        except RequestError as exc:
            lost = openai.APIConnectionError(message=str(exc), request=exc.request)
            raise translated(lost, self._base_url) from exc
        return bytes(body)

    def _call(
        self, reference: bytes | None, **values: Any
    ) -> AbstractAsyncContextManager[AsyncAPIResponse[ImagesResponse]]:
        images = self._connect().images.with_streaming_response
        if reference is None:
            return images.generate(**values)
        file_format = signature(reference)
        name = f"reference.{file_format.lower()}"
        return images.edit(image=(name, reference, MIMES[file_format]), **values)

    async def _fetch(self, url: str) -> bytes:
        from backend.imaging.cloud.answers import CHARGED, MAX_IMAGE_BYTES
        from backend.imaging.cloud.fetching import FetchRules, fetch

        rules = FetchRules.of(
            self._base_url,
            self._image_hosts,
            max_bytes=MAX_IMAGE_BYTES,
            timeout_s=self._timeout_s,
            tls=self._tls,
        )
        try:
            data, _ = await retried(lambda: fetch(url, rules), self._retries)
        except ProviderError as exc:
            exc.details |= CHARGED  # the picture was made, whoever did not get it
            raise
        return data

    def _connect(self) -> AsyncOpenAI:
        if self._client is None:
            from openai import AsyncOpenAI, DefaultAsyncHttpxClient

            from backend.imaging.cloud.errors_in_bounds import bound_error

            self._client = AsyncOpenAI(
                base_url=self._base_url,
                api_key=self._api_key,
                timeout=self._timeout_s,
                max_retries=0,  # it is we who ask again
                http_client=DefaultAsyncHttpxClient(
                    timeout=self._timeout_s,
                    follow_redirects=False,
                    event_hooks={"response": [bound_error]},
                ),
            )
        return self._client


def _reference_receipt(request: ImageRequest) -> dict[str, Any]:
    if request.reference is None:
        return {}
    sha256 = hashlib.sha256(request.reference).hexdigest()
    return {"reference": {"sha256": sha256, "way": "edit"}}


def _refuse_local_options(request: ImageRequest) -> None:
    given = [name for name in _LOCAL_ONLY if getattr(request, name) not in (None, ())]
    if given:
        raise UnsupportedTask(
            f"a cloud images endpoint does not take {', '.join(given)}; leave it out or name a "
            "local model.",
            {"options": given},
        )
