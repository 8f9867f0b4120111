"""AIModelManager: choose a model for a request and hand it to the backend that owns it.

A switchboard: what it knows of devices, processes and vendors are the names of the rooms.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, List, Self  # noqa: UP035 - List is part of the contract's signature

from backend.config import Settings, load_settings
from backend.errors import InvalidRequest, ModelNotAvailable
from backend.imaging.builtin.cards import cards as builtin_cards
from backend.imaging.catalog import discover, with_adapter_dirs
from backend.imaging.checks import INTERACTIVE
from backend.imaging.devices import Device, resolve_devices
from backend.imaging.pool.pool import DevicePool
from backend.imaging.pool.seat import DeviceSnapshot, Limits
from backend.imaging.selection import choose_model
from backend.imaging.types import ImageBackend, ImageRequest, ModelCard, OnStep, item_seed
from backend.services.spending import clouds as configured_clouds
from backend.services.together import together

CLOUD_CONCURRENCY = 4


class AIModelManager:
    """Makes images with local models over all devices, or with a cloud where there is no local one.

    `AIModelManager()` builds itself from the settings. Workers start with the first image; call
    `close()` to end them, or let them end with the process. Usable as an async context manager.

    Args:
        settings: read from the environment where none are given.
        cpu_slots: how many CPU slots `GATOR_DEVICES=auto` gives on a machine without a GPU.
        clouds: whom to ask beside the devices; those of the settings where left out.
    """

    def __init__(
        self,
        settings: Settings | None = None,
        *,
        cpu_slots: int = 1,
        clouds: Sequence[ImageBackend] | None = None,
    ) -> None:
        self._settings = settings or load_settings()
        self._cpu_slots = cpu_slots
        dirs = self._settings.model_dirs
        cards = (*discover(dirs, self._settings.image_models), *builtin_cards())
        self._pool = DevicePool(
            self.devices,
            with_adapter_dirs(cards, dirs),
            cpu_threads=self._settings.cpu_threads,
            limits=_limits(self._settings),
            strict={"yes": True, "no": False}.get(self._settings.strict),
        )
        clouds = configured_clouds(self._settings) if clouds is None else clouds
        self._backends: list[ImageBackend] = [self._pool, *clouds]
        self._listeners: list[Callable[[Mapping[str, float]], None]] = []
        self.available_models: dict[str, list[dict[str, Any]]] = {
            "image": [card.as_entry() for backend in self._backends for card in backend.cards()]
        }

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    @property
    def preferred_model(self) -> str | None:
        """The name of the model to use where a request names none, as configured."""
        return self._settings.image_model

    def cards(self) -> list[ModelCard]:
        """Return the image models as cards, as `available_models` lists them now."""
        return [_card(entry) for entry in self._entries()]

    def choose(self, request: ImageRequest) -> ModelCard:
        """Choose the model that serves a request.

        Raises:
            ModelNotAvailable: the one it names, or any at all, or an adapter is not here.
            UnsupportedTask: it cannot make that size, or start from a reference.
        """
        return choose_model(request, self.cards(), self._settings.image_model)

    def devices(self) -> tuple[Device, ...]:
        """Return the devices there are now: those configured, else every GPU, else CPU slots."""
        return resolve_devices(self._settings.devices, cpu_slots=self._cpu_slots)

    def snapshot(self) -> list[DeviceSnapshot]:
        """Say what every device is doing; nothing before the first image."""
        return self._pool.snapshot()

    def release_device(self, name: str) -> None:
        """Let a device work again that was quarantined for its failures."""
        self._pool.release(name)

    def observe(self, listener: Callable[[Mapping[str, float]], None]) -> None:
        """Tell a listener from now on how many seconds each picture takes, by stage."""
        self._listeners.append(listener)

    def note_seconds(self, seconds: Mapping[str, float]) -> None:
        """Tell the listeners how many seconds stages of one picture took."""
        for listener in self._listeners:
            listener(seconds)

    async def close(self) -> None:
        """End all workers and connections; may be called twice."""
        for backend in self._backends:
            await backend.close()

    async def generate_image(self, prompt: str, **kwargs: Any) -> dict[str, Any]:
        """Make one image with the best model there is, or the one that `model=` names.

        Args:
            prompt: what the picture shows.
            **kwargs: the fields of `ImageRequest`: `seed`, `width`, `height`, `model`, …; it goes
                before all batches where no `priority` is given. `on_step=` is told of its steps.

        Returns:
            `image_data`, `format`, `width`, `height`, `model`, `provider`, `seed`, `device_id`,
            `status` and how it was made; see `GeneratedImage`.

        Raises:
            InvalidRequest: a field is wrong; all faults are listed.
            ModelNotAvailable: no model can serve it.
            GatorError: the device or the provider failed.
        """
        on_step = kwargs.pop("on_step", None)
        request = ImageRequest.from_call(prompt, {"priority": INTERACTIVE, **kwargs})
        card = self.choose(request)
        return await self._made(self._backend_of(card), request, card, on_step)

    async def generate_images_batch(
        self,
        prompts: List[str],  # noqa: UP006
        **kwargs: Any,
    ) -> List[dict[str, Any]]:  # noqa: UP006
        """Make one image a prompt, over all devices at once, in the order of the prompts.

        Args:
            prompts: one picture each.
            **kwargs: as for `generate_image`; `seed` is the batch's, from which each item's own
                is hashed.

        Returns:
            One result a prompt; a failed one is `{"error", "prompt", "status": "failed"}`.

        Raises:
            InvalidRequest: `prompts` is one text and not a list, or a device is named, since a
                batch places itself.
        """
        _refuse_misuse(prompts, kwargs)
        if not prompts:
            return []
        options = [_item_options(kwargs, index) for index in range(len(prompts))]
        model = self._local_model(kwargs.get("model"))
        if model is None:
            return await self._in_the_cloud(prompts, options)
        for item in options:
            item.pop("model", None)  # it is chosen, and handed on beside the options
        devices = self.devices()
        if len(devices) > 1:
            return await self._on_devices(prompts, options, model, devices)
        return [
            await _settled(prompt, self._generate_image_local(prompt, model, **item))
            for prompt, item in zip(prompts, options, strict=True)
        ]

    async def _on_devices(
        self,
        prompts: Sequence[str],
        options: Sequence[dict[str, Any]],
        model: dict[str, Any],
        devices: Sequence[Device],
    ) -> list[dict[str, Any]]:
        homes = [devices[index % len(devices)].device_id for index in range(len(prompts))]
        return await together(
            *(
                _settled(prompt, self._generate_image_on_device(prompt, model, home, **item))
                for prompt, home, item in zip(prompts, homes, options, strict=True)
            )
        )

    async def _in_the_cloud(
        self, prompts: Sequence[str], options: Sequence[dict[str, Any]]
    ) -> list[dict[str, Any]]:
        places = asyncio.Semaphore(CLOUD_CONCURRENCY)

        async def one(prompt: str, item: dict[str, Any]) -> dict[str, Any]:
            async with places:
                return await _settled(prompt, self.generate_image(prompt, **item))

        return await together(*map(one, prompts, options))

    async def _generate_image_on_device(
        self, prompt: str, model: dict[str, Any], device_id: int, **kwargs: Any
    ) -> dict[str, Any]:
        """Make one image whose home is a device; the result names the device that made it."""
        result = await self._generate_image_local(prompt, model, device_id=device_id, **kwargs)
        result.setdefault("device_id", device_id)
        return result

    async def _generate_image_local(
        self, prompt: str, model: dict[str, Any], **kwargs: Any
    ) -> dict[str, Any]:
        """Make one image with a local model, on the device that `device_id=` names, or any."""
        return await self._generate_image_diffusers(prompt, model, **kwargs)

    async def _generate_image_diffusers(
        self, prompt: str, model: dict[str, Any], device_id: int | None = None, **kwargs: Any
    ) -> dict[str, Any]:
        """Hand one image to the pool, whose workers keep the pipelines."""
        request = ImageRequest.from_call(
            prompt, {**kwargs, "model": model["name"], "device_id": device_id}
        )
        card = choose_model(request, self.cards())
        return await self._made(self._pool, request, card)

    async def _made(
        self,
        backend: ImageBackend,
        request: ImageRequest,
        card: ModelCard,
        on_step: OnStep | None = None,
    ) -> dict[str, Any]:
        image = await backend.generate(request, card, on_step)
        self.note_seconds(image.seconds)
        return image.as_dict()

    def _local_model(self, wanted: str | None) -> dict[str, Any] | None:
        """Return the entry of the local model that serves, if one is loaded."""
        local = [entry for entry in self._entries() if entry["provider"] == "local"]
        wanted = wanted or self._settings.image_model
        try:
            card = choose_model(ImageRequest("", 0), [_card(entry) for entry in local], wanted)
        except ModelNotAvailable:
            return None
        return next(entry for entry in local if entry["name"] == card.name)

    def _entries(self) -> list[dict[str, Any]]:
        return self.available_models.get("image", [])

    def _backend_of(self, card: ModelCard) -> ImageBackend:
        for backend in self._backends:
            if any(own.name == card.name for own in backend.cards()):
                return backend
        raise ModelNotAvailable(
            f"image model {card.name!r} is listed, but nothing here can run it.",
            {"model": card.name},
        )


def _card(entry: Mapping[str, Any]) -> ModelCard:
    """Read a caller's entry, of which only `name`, `provider` and `loaded` are certain."""
    known = {name: entry[name] for name in ModelCard.__slots__ if name in entry}
    kind = "diffusion" if entry["provider"] == "local" else "cloud"
    return ModelCard(**{"kind": kind, "engine": "", "source": entry["name"], **known})


def _refuse_misuse(prompts: object, options: Mapping[str, Any]) -> None:
    if isinstance(prompts, str):
        raise InvalidRequest("prompts: is one text; give a list with one text a picture")
    if "device_id" in options:
        raise InvalidRequest("device_id: a batch goes round all devices; GATOR_DEVICES limits them")


def _item_options(options: Mapping[str, Any], index: int) -> dict[str, Any]:
    seed = options.get("seed")
    own = {"seed": item_seed(seed, index)} if isinstance(seed, int) else {}
    return {**options, **own}


async def _settled(prompt: str, work: Awaitable[dict[str, Any]]) -> dict[str, Any]:
    """Wait for one item; its failure becomes its result, so that the others are unharmed."""
    try:
        return await work
    except Exception as exc:  # noqa: BLE001 - the edge of a batch item
        return {
            "error": str(exc) or type(exc).__name__,
            "prompt": str(prompt),
            "status": "failed",
        }


def _limits(settings: Settings) -> Limits:
    return Limits(
        start_s=settings.worker_start_timeout_s,
        load_s=settings.load_timeout_s,
        compile_s=settings.compile_timeout_s,
        step_s=settings.step_timeout_s,
        encode_s=settings.encode_timeout_s,
        cancel_s=settings.cancel_timeout_s,
    )
