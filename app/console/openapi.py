"""The OpenAPI 3.1 page of the operators' API, made from the operations."""

from collections.abc import Iterable
from http import HTTPStatus
from typing import Any

import msgspec

from app.protocols.operations import Operation

API_PREFIX = "/api/v1"
_REFERENCE = "#/components/schemas/{name}"
_ERROR = {
    "type": "object",
    "required": ["ok", "error", "code"],
    "properties": {"ok": {"const": False}, "error": {"type": "string"}, "code": {"type": "string"}},
}
_REFUSALS = (400, 401, 403, 404, 429, 503)
_SITE = {"name": "site", "in": "path", "required": True, "schema": {"type": "string"}}


def describe(operations: Iterable[Operation]) -> dict[str, Any]:
    """The page."""
    operations = sorted(operations, key=lambda one: (one.path, one.method))
    kinds = [operation.parameters for operation in operations]
    _, schemas = msgspec.json.schema_components(kinds, ref_template=_REFERENCE)
    paths: dict[str, Any] = {}
    for operation in operations:
        paths.setdefault(API_PREFIX + operation.path, {})[operation.method.lower()] = _operation(operation, schemas)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Recado, for operators", "version": "1", "description": "Times are RFC 3339 in UTC."},
        "servers": [{"url": "/"}],
        "security": [{"bearer": []}],
        "paths": paths,
        "components": {
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
            "schemas": {"Error": _ERROR, **_used(schemas, kinds)},
        },
    }


def _operation(operation: Operation, schemas: dict[str, Any]) -> dict[str, Any]:
    schema = schemas[operation.parameters.__name__]
    fields: dict[str, Any] = schema.get("properties", {})
    required = schema.get("required", [])
    in_path = operation.path_names
    parameters = [_SITE] if operation.is_of_site else []
    body: dict[str, Any] = {}
    for name, field in fields.items():
        if name in in_path:
            parameters.append({"name": name, "in": "path", "required": True, "schema": _plain(field)})
        elif operation.is_action:
            body[name] = _plain(field)
        else:
            parameters.append({"name": name, "in": "query", "required": name in required, "schema": _plain(field)})
    answers = {
        str(status): _answer(HTTPStatus(status).phrase, {"$ref": _REFERENCE.format(name="Error")})
        for status in _REFUSALS
    }
    described = {
        "operationId": operation.name,
        "summary": operation.summary,
        "description": f"Least role: {operation.role.name.lower()}.",
        "parameters": parameters,
        "responses": {"200": _answer("The answer.", {"type": "object"}), **answers},
    }
    if body:
        own = {"type": "object", "properties": body, "required": [name for name in required if name in body]}
        described["requestBody"] = {"content": {"application/json": {"schema": own}}}
    return described


def _answer(text: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": text, "content": {"application/json": {"schema": schema}}}


def _plain(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema of a parameter of a URL, which is never null."""
    if "pattern" in schema:
        # The end of a text in JavaScript's dialect, which JSON Schema has.
        return {**schema, "pattern": schema["pattern"].replace(r"\Z", "$")}
    kinds = [kind for kind in schema.get("anyOf", []) if kind != {"type": "null"}]
    if len(kinds) != 1:
        return schema
    default = {"default": schema["default"]} if schema.get("default") is not None else {}
    return {**_plain(kinds[0]), **default}


def _used(schemas: dict[str, Any], kinds: Iterable[type]) -> dict[str, Any]:
    """The schemas that others refer to: those of whole parameter lists are taken apart above."""
    whole = {kind.__name__ for kind in kinds}
    return {name: schema for name, schema in schemas.items() if name not in whole}
