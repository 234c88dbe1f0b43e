"""The OpenAPI description of the endpoints: what the ingress itself reads and answers.

Fields that only an engine reads are described loosely, or left to `additionalProperties`: they
are checked by the engine, which knows its own API better than any copy of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from serve_apps.guard.settings import BodyLimits

Json = dict[str, Any]

SECURITY = "apiKey"
ADMIN = "adminKey"


def openapi(
    version: str, *, keys: bool = False, limits: BodyLimits | None = None, pages: bool = True
) -> Json:
    """An OpenAPI 3.1 document, as plain data.

    ``version`` is the product's; ``keys``: requests need one; ``pages``: those for the operator
    (explaining a request, metrics) are served too.
    """
    limits = limits or BodyLimits()
    paths = {
        "/v1/chat/completions": {"post": _completion("chatCompletion", _chat(limits))},
        "/v1/completions": {"post": _completion("completion", _text(limits))},
        "/v1/feedback": {"post": _feedback()},
        "/v1/models": {"get": _get("listModels", "The models of the pool.", _ref("Models"))},
        "/v1/models/{name}": {
            "get": _get("model", "One model.", _ref("Model"), name="name", missing=True)
        },
        "/health": {"get": _health()},
    }
    if pages:
        paths |= _operator_pages(keys=keys)
    document: Json = {
        "openapi": "3.1.0",
        "info": {
            "title": "LLM Orchestrator",
            "version": version,
            "description": "OpenAI-compatible. `model` is a model's name, or `auto` to let the "
            "router choose (`auto:cost`, `auto:quality=0.95` where it has learned).",
        },
        "paths": paths,
        "components": {"schemas": _schemas()},
    }
    if keys:
        scheme = {"type": "http", "scheme": "bearer"}
        document["components"]["securitySchemes"] = {SECURITY: scheme, ADMIN: scheme}
        document["security"] = [{SECURITY: []}]
        paths["/health"]["get"]["security"] = []
    return document


def _completion(name: str, schema: Json) -> Json:
    answer = {
        "description": "The engine's answer, passed through.",
        "headers": {"x-request-id": {"schema": {"type": "string"}}},
        "content": {"application/json": {"schema": {}}, "text/event-stream": {"schema": {}}},
    }
    return {
        "operationId": name,
        "requestBody": _body(schema),
        "responses": {"200": answer, **_errors(400, 401, 403, 404, 413, 415, 422, 429, 500, 503)},
    }


def _chat(limits: BodyLimits) -> Json:
    message = {
        "type": "object",
        "required": ["role"],
        "properties": {
            "role": {"type": "string"},
            "content": {
                "oneOf": [
                    {"type": "string"},
                    {"type": "array", "items": _part(), "maxItems": limits.max_parts},
                    {"type": "null"},
                ]
            },
        },
    }
    own = {
        "messages": {
            "type": "array",
            "items": message,
            "minItems": 1,
            "maxItems": limits.max_messages,
        },
        "max_completion_tokens": _tokens(limits),
    }
    return _request(own, "messages", limits)


def _part() -> Json:
    return {
        "type": "object",
        "required": ["type"],
        "properties": {"type": {"type": "string"}, "text": {"type": "string"}},
        "additionalProperties": False,
    }


def _text(limits: BodyLimits) -> Json:
    ids = {"type": "array", "items": {"type": "integer", "minimum": 0}, "minItems": 1}
    many = [
        {"type": "array", "items": each, "minItems": 1, "maxItems": limits.max_prompts}
        for each in ({"type": "string"}, ids)
    ]
    prompt = {"anyOf": [{"type": "string"}, ids, *many]}
    return _request({"prompt": prompt}, "prompt", limits)


def _request(own: Json, needed: str, limits: BodyLimits) -> Json:
    """What both kinds of completion have in common, beside ``own``."""
    shared = {
        "model": {"type": "string", "minLength": 1},
        "stream": {"type": ["boolean", "null"]},
        "max_tokens": _tokens(limits),
        "n": {"type": ["integer", "null"], "minimum": 1, "maximum": limits.max_n},
        "user": {"type": "string"},
        "prompt_cache_key": {"type": "string"},
    }
    return {"type": "object", "required": ["model", needed], "properties": shared | own}


def _tokens(limits: BodyLimits) -> Json:
    found: Json = {"type": ["integer", "null"], "minimum": 0}
    if limits.max_output_tokens is not None:
        found["maximum"] = limits.max_output_tokens
    return found


def _feedback() -> Json:
    return {
        "operationId": "feedback",
        "description": "How good an answer was; a router that learns takes it in.",
        "requestBody": _body({
            "type": "object",
            "required": ["request_id", "score"],
            "properties": {
                "request_id": {"type": "string", "minLength": 1},
                "score": {"type": "number", "minimum": 0, "maximum": 1},
            },
            "additionalProperties": False,
        }),
        "responses": {
            "200": _json("What was taken in.", {"type": "object"}),
            **_errors(400, 401, 403, 404, 409, 413, 415, 429, 503),
        },
    }  # fmt: skip


def _health() -> Json:
    operation = _get("health", "Whether every group has an engine that is ready.", {})
    operation["responses"]["503"] = _json("Some have none.", {})
    return operation


def _operator_pages(*, keys: bool) -> Json:
    explain = _get(
        "explain", "Why a request went where it went.", {}, name="request_id", missing=True
    )
    metrics = _get("metrics", "Prometheus metrics.", None)
    if keys:
        explain["security"] = metrics["security"] = [{ADMIN: []}]
    return {"/orchestrator/explain/{request_id}": {"get": explain}, "/metrics": {"get": metrics}}


def _get(
    operation: str, what: str, schema: Json | None, *, name: str = "", missing: bool = False
) -> Json:
    content = {"application/json": {"schema": schema}} if schema is not None else {"text/plain": {}}
    found: Json = {
        "operationId": operation,
        "responses": {
            "200": {"description": what, "content": content},
            **_errors(401, 403, 503, *([404] if missing else [])),
        },
    }
    if name:
        schema = {"type": "string", "minLength": 1}
        found["parameters"] = [{"name": name, "in": "path", "required": True, "schema": schema}]
    return found


def _body(schema: Json) -> Json:
    return {"required": True, "content": {"application/json": {"schema": schema}}}


def _json(what: str, schema: Json) -> Json:
    return {"description": what, "content": {"application/json": {"schema": schema}}}


_MEANING = {
    400: "Malformed, beyond a limit, or a field that is not taken here.",
    401: "No valid API key.",
    403: "The key may not do this, or another site's page asks.",
    404: "No such model or request.",
    409: "Judged already.",
    413: "The body is too large.",
    415: "The body is no plain JSON.",
    422: "The engine refuses the request.",
    429: "A limit of the key, its budget, or overload; see Retry-After.",
    500: "The engine failed.",
    503: "No engine can be reached.",
}


def _errors(*statuses: int) -> Json:
    return {str(s): _json(_MEANING[s], _ref("Error")) for s in sorted(statuses)}


def _ref(name: str) -> Json:
    return {"$ref": f"#/components/schemas/{name}"}


def _schemas() -> Json:
    nullable: Json = {"type": ["string", "null"]}
    error = _object({"message": {"type": "string"}, "type": {"type": "string"}})
    error["properties"] |= {"param": nullable, "code": nullable}
    model = _object({
        "id": {"type": "string"},
        "object": {"const": "model"},
        "created": {"type": "integer"},
        "owned_by": {"type": "string"},
        "max_model_len": {"type": "integer"},
    })  # fmt: skip
    models = _object({
        "object": {"const": "list"},
        "data": {"type": "array", "items": _ref("Model")},
    })  # fmt: skip
    return {"Error": _object({"error": error}), "Model": model, "Models": models}


def _object(properties: dict[str, Json]) -> Json:
    required: Sequence[str] = list(properties)
    return {"type": "object", "required": required, "properties": properties}
