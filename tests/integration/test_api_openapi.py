"""The OpenAPI document is complete: a client can be written from it alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from backend.api.app import create_app
from backend.config import Settings

PROBLEM = {"$ref": "#/components/schemas/Problem"}
PROBLEM_TYPE = "application/problem+json"
LINES = "application/x-ndjson"


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return create_app(Settings(home=Path("never-made"))).openapi()


def operations(document: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    return [
        (f"{method.upper()} {path}", operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]


def test_every_promised_route_is_there(document: dict[str, Any]) -> None:
    base = "/api/v1/personas/{persona_id}"
    assert {name for name, _ in operations(document)} == {
        "GET /healthz",
        "GET /readyz",
        "GET /metrics",
        "POST /api/v1/personas",
        "GET /api/v1/personas",
        f"GET {base}",
        f"PATCH {base}",
        f"PUT {base}",
        f"DELETE {base}",
        "POST /api/v1/personas/import",
        f"GET {base}/card",
        f"GET {base}/base-image",
        f"POST {base}/base-image/upload",
        f"POST {base}/base-image/generate-cloud",
        f"POST {base}/base-image/generate-local",
        f"POST {base}/base-image/approve",
        f"POST {base}/base-image/reject",
        f"POST {base}/base-image/reopen",
        f"POST {base}/base-image/unlock",
        f"POST {base}/base-image/purge",
        f"POST {base}/base-image/consents/{{consent_id}}/revoke",
        f"GET {base}/base-image/versions",
        f"GET {base}/base-image/versions/{{n}}/image",
        f"GET {base}/base-image/events",
        f"POST {base}/content",
        "POST /api/v1/batches",
        "GET /api/v1/batches",
        "GET /api/v1/batches/{batch_id}",
        "GET /api/v1/batches/{batch_id}/items",
        "GET /api/v1/batches/{batch_id}/items/{position}/attempts",
        "GET /api/v1/batches/{batch_id}/events",
        "POST /api/v1/batches/{batch_id}/cancel",
        "POST /api/v1/batches/{batch_id}/pause",
        "POST /api/v1/batches/{batch_id}/resume",
        "POST /api/v1/batches/{batch_id}/retry-failed",
        "POST /api/v1/prompts/preview",
        "GET /api/v1/content",
        "GET /api/v1/content/{content_id}",
        "GET /api/v1/content/{content_id}/image",
        "PUT /api/v1/content/{content_id}/caption",
        "POST /api/v1/content/{content_id}/caption/rewrite",
        "POST /api/v1/captions",
        "GET /api/v1/captions/explain",
        "GET /api/v1/cloud/spending",
        "GET /api/v1/models",
        "GET /api/v1/devices",
        "GET /api/v1/devices/{device}/preview",
        "POST /api/v1/devices/{device}/release",
        "GET /api/v1/content/passing/{name}",
        "POST /v1/images/generations",
        "POST /v1/images/edits",
        "GET /v1/models",
        "GET /v1/models/{model_id}",
        "POST /sdapi/v1/txt2img",
        "GET /sdapi/v1/sd-models",
        "GET /sdapi/v1/options",
    }


def test_every_route_is_documented_in_full(document: dict[str, Any]) -> None:
    faults = [
        f"{name}: {fault}"
        for name, operation in operations(document)
        for fault in _faults(operation, _error_of(name))
    ]
    assert not faults, "\n".join(faults)


def test_operation_ids_are_unique_and_plain(document: dict[str, Any]) -> None:
    ids = [operation["operationId"] for _, operation in operations(document)]
    assert len(ids) == len(set(ids))
    assert all(identifier.isidentifier() for identifier in ids)


def test_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    references = set(_references(document))
    assert {ref.rpartition("/")[2] for ref in references} <= set(schemas)
    assert all(ref.startswith("#/components/schemas/") for ref in references)


def test_the_frameworks_own_error_form_is_nowhere(document: dict[str, Any]) -> None:
    assert "HTTPValidationError" not in json.dumps(document)


def test_required_fields_of_bodies_show_an_example(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    for name in ("PersonaCreate", "PromptsPreview", "CaptionCreate", "Reason"):
        for field in schemas[name]["required"]:
            assert schemas[name]["properties"][field].get("examples"), f"{name}.{field}"
    for field in ("prompts", "template"):
        assert schemas["BatchCreate"]["properties"][field].get("examples"), field


def test_an_unknown_field_is_refused_by_every_body(document: dict[str, Any]) -> None:
    for name, operation in operations(document):
        if "requestBody" in operation:
            for body in _bodies(document, operation):
                assert body.get("additionalProperties") is False, name


def _error_of(name: str) -> tuple[str, dict[str, str], str]:
    """The form of a route's errors, and the status of a request that is wrong."""
    path = name.partition(" ")[2]
    if path.startswith("/v1/"):
        return "application/json", {"$ref": "#/components/schemas/OpenAIError"}, "400"
    if path.startswith("/sdapi/"):
        return "application/json", {"$ref": "#/components/schemas/WebUiError"}, "422"
    return PROBLEM_TYPE, PROBLEM, "422"


def _faults(operation: dict[str, Any], error: tuple[str, dict[str, str], str]) -> list[str]:
    media_type, form, wrong = error
    faults = [f"no {key}" for key in ("summary", "description", "tags") if not operation.get(key)]
    fine = {s: r for s, r in operation["responses"].items() if s.startswith("2")}
    bad = {s: r for s, r in operation["responses"].items() if s[0] in "45"}
    if not fine:
        faults.append("no success")
    for status, response in fine.items():
        media = response.get("content", {}).values()
        schemas = [one.get("schema") or one.get("itemSchema") for one in media]
        if status != "204" and not (schemas and all(schemas)):
            faults.append(f"{status} has no schema")
    wanted = {"403", "500"} | ({"413", wrong} if "requestBody" in operation else set())
    wanted |= {wrong} if operation.get("parameters") else set()
    faults += [f"{status} is not documented" for status in sorted(wanted - set(bad))]
    for status, response in bad.items():
        content = response.get("content", {})
        if list(content) != [media_type] or content[media_type]["schema"] != form:
            faults.append(f"{status} is not in the form of errors")
        elif not content[media_type]["examples"]:
            faults.append(f"{status} has no example")
        if not response["description"]:
            faults.append(f"{status} has no description")
    return faults + [
        f"parameter {parameter['name']} has no description"
        for parameter in operation.get("parameters", [])
        if not parameter.get("description")
    ]


def _bodies(document: dict[str, Any], operation: dict[str, Any]) -> list[dict[str, Any]]:
    contents = dict(operation["requestBody"]["content"])
    assert contents.pop(LINES, {"schema": {"type": "string"}})["schema"]["type"] == "string"
    if contents.get("application/json", {}).get("schema", {}).get("title") == "Card":
        del contents["application/json"]  # somebody else's document: what is unknown is kept
    (content,) = contents.values()
    schema = content["schema"]
    if "properties" in schema:
        return [schema]
    choices = schema.get("anyOf", [schema])
    names = [choice["$ref"].rpartition("/")[2] for choice in choices if "$ref" in choice]
    return [document["components"]["schemas"][name] for name in names]


def _references(node: Any) -> list[str]:
    if isinstance(node, dict):
        own = [node["$ref"]] if isinstance(node.get("$ref"), str) else []
        return own + [ref for value in node.values() for ref in _references(value)]
    if isinstance(node, list):
        return [ref for value in node for ref in _references(value)]
    return []
