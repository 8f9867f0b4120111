"""The one tree of errors.

    GatorError                   code, http_status, retryable
    ├ InvalidRequest · NotFound · Conflict
    ├ PreconditionRequired · PreconditionFailed
    ├ Forbidden · TooLarge · NotReady
    ├ ConfigurationError         at start, naming the setting
    ├ StorageError               a database, blob folder or disk that cannot be used
    ├ ModelError                 ModelNotAvailable · ModelLoadFailed · UnsupportedTask
    ├ DeviceError                DeviceOutOfMemory · DeviceLost · DeviceFault · AllDevicesLost ·
    │                            GenerationFailed · RenderCancelled
    ├ ProviderError              ProviderNotConfigured · ProviderRateLimited · ProviderTimeout
    ├ SpendingCapReached         what the cloud may cost in a month
    └ ContentRejected            policy, stated and never a side effect

A message says what was wrong and what to do. `details` are plain JSON values, so an error crosses a
process or an HTTP response as (code, message, details) and is rebuilt by its code.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar


class GatorError(Exception):
    """Anything Gator refuses or fails to do, with a stable `code`."""

    code: ClassVar[str] = "internal"
    http_status: ClassVar[int] = 500
    retryable: ClassVar[bool] = False

    def __init__(self, message: str, details: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.details: dict[str, Any] = dict(details or {})


class InvalidRequest(GatorError):
    """What was asked for cannot be done as asked; `details["errors"]` lists each faulty field."""

    code = "invalid_request"
    http_status = 422


class NotFound(GatorError):
    """No such persona, image, batch or version."""

    code = "not_found"
    http_status = 404


class Conflict(GatorError):
    """The thing exists but is not in a state that allows this."""

    code = "conflict"
    http_status = 409


class PreconditionRequired(GatorError):
    """A change has to say which revision it was decided on, and did not."""

    code = "precondition_required"
    http_status = 428


class PreconditionFailed(GatorError):
    """It was decided on a revision that is no longer the current one; read again and decide."""

    code = "precondition_failed"
    http_status = 412


class Forbidden(GatorError):
    """Whoever asks may not do this, or not from there."""

    code = "forbidden"
    http_status = 403


class TooLarge(GatorError):
    """More was sent than is read."""

    code = "too_large"
    http_status = 413


class NotReady(GatorError):
    """The studio runs but cannot work yet; `details["checks"]` says what is missing."""

    code = "not_ready"
    http_status = 503
    retryable = True


class ConfigurationError(GatorError):
    """A setting has a value that Gator cannot start with."""

    code = "configuration"


class StorageError(GatorError):
    """The home folder, the database or the blob store cannot be read or written."""

    code = "storage"
    http_status = 507


class ModelError(GatorError):
    """Something about an image model."""

    code = "model"


class ModelNotAvailable(ModelError):
    """No such model here, or none at all; `details["available"]` names those there are."""

    code = "model_not_available"
    http_status = 404


class ModelLoadFailed(ModelError):
    """The model's files are there but did not load."""

    code = "model_load_failed"


class UnsupportedTask(ModelError):
    """The model cannot do this: a size, a negative prompt, a reference image."""

    code = "unsupported_task"
    http_status = 422


class DeviceError(GatorError):
    """Something about a device or the worker that owns it."""

    code = "device"
    http_status = 503
    retryable = True


class DeviceOutOfMemory(DeviceError):
    """The work did not fit into the device's memory; the worker goes on."""

    code = "device_out_of_memory"


class DeviceLost(DeviceError):
    """The worker that owned the device died or could not start."""

    code = "device_lost"


class DeviceFault(DeviceError):
    """The device or its driver failed under the worker, which cannot be used any more."""

    code = "device_fault"


class AllDevicesLost(DeviceError):
    """Every device is quarantined; `gator devices release` brings one back."""

    code = "all_devices_lost"


class RenderCancelled(DeviceError):
    """The image was cancelled while it was made."""

    code = "render_cancelled"
    http_status = 409
    retryable = False


class GenerationFailed(DeviceError):
    """The engine raised while making the image; `details["traceback"]` is the worker's own."""

    code = "generation_failed"
    http_status = 500
    retryable = False


class ProviderError(GatorError):
    """A cloud provider or LLM endpoint answered badly."""

    code = "provider"
    http_status = 502
    retryable = True


class ProviderNotConfigured(ProviderError):
    """No endpoint is configured for this."""

    code = "provider_not_configured"
    http_status = 503
    retryable = False


class ProviderRateLimited(ProviderError):
    """The provider asks to wait; `details["retry_after_s"]` says how long, where it told."""

    code = "provider_rate_limited"
    http_status = 503


class ProviderTimeout(ProviderError):
    """The provider did not answer in time."""

    code = "provider_timeout"
    http_status = 504


class SpendingCapReached(GatorError):
    """It would cost more than may be spent on clouds in this month."""

    code = "spending_cap_reached"
    http_status = 402


class ContentRejected(GatorError):
    """A stated policy refuses this prompt or picture."""

    code = "content_rejected"
    http_status = 422


def _tree(root: type[GatorError]) -> dict[str, type[GatorError]]:
    found = {root.code: root}
    for child in root.__subclasses__():
        found.update(_tree(child))
    return found


def from_wire(code: str, message: str, details: Mapping[str, Any] | None = None) -> GatorError:
    """Rebuild an error that a worker or a server sent; an unknown code gives a `GatorError`."""
    return _tree(GatorError).get(code, GatorError)(message, details)
