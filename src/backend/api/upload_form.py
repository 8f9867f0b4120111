"""What forms with a picture have in common: the file, and the leave to show who is on it."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import ValidationError

from backend.api.schemas import Upload
from backend.errors import InvalidRequest
from backend.models.base_image import ConsentCreate


def consent_of(fields: Mapping[str, str]) -> ConsentCreate | None:
    """Read the leave from a form; an empty field is one that was left out.

    Raises:
        InvalidRequest: a field is wrong, or unknown; every one is named.
    """
    given = {name: value for name, value in fields.items() if value.strip()}
    try:
        return Upload.model_validate({**given, "file": ""}).consent()
    except ValidationError as exc:
        faults = [
            {
                "field": ".".join(map(str, error["loc"])) or "consent_granted_by",
                "message": error["msg"],
                "location": "body",
            }
            for error in exc.errors()
        ]
        message = "; ".join(f"{fault['field']}: {fault['message']}" for fault in faults)
        raise InvalidRequest(message, {"errors": faults}) from exc


def missing(field: str, message: str) -> InvalidRequest:
    """Return the error that tells of a field that is not there."""
    fault = {"field": field, "message": message, "location": "body"}
    return InvalidRequest(f"{field}: {message}.", {"errors": [fault]})
