"""The OpenAPI 3.1 document, made of the routes and of the types of their answers."""

from __future__ import annotations

import functools
from http import HTTPStatus
from typing import Any

import msgspec

from relayx import __version__
from relayx.admin import model
from relayx.admin.access import MARK, Needs
from relayx.admin.routes import JSON, ROUTES, Route

_REF = "#/components/schemas/{name}"
_USUAL = {
    400: "the query is not as it should be",
    401: "the token is missing or wrong",
    403: "another site asks, a header is missing, or there is no token to ask for",
    421: "Host is none of ours",
}


@functools.cache
def document() -> dict[str, Any]:
    """The whole document."""
    answers = [route.answer for route in ROUTES if route.answer is not None]
    schemas, components = msgspec.json.schema_components(
        [*answers, model.Failed, model.Snapshot, model.Happened], ref_template=_REF
    )
    shapes = dict(zip([r.name for r in ROUTES if r.answer is not None], schemas, strict=False))
    paths: dict[str, dict[str, Any]] = {}
    for route in ROUTES:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(
            route, shapes.get(route.name)
        )
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "relayx admin API",
            "version": __version__,
            "description": "What a relayx gateway does, and what it can be told to do.",
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {"admin_token": {"type": "http", "scheme": "bearer"}},
        },
    }


def _operation(route: Route, shape: dict[str, Any] | None) -> dict[str, Any]:
    kinds = {kind: {"schema": shape} if shape and kind == JSON else {} for kind in route.kinds}
    answers: dict[str, Any] = {
        str(route.status): {"description": HTTPStatus(route.status).phrase, "content": kinds}
    }
    for status, when in sorted({**_refusals(route), **route.refusals}.items()):
        named = model.Readiness if (route.name, status) == ("readyz", 503) else model.Failed
        content = {JSON: {"schema": {"$ref": _REF.format(name=named.__name__)}}}
        answers[str(status)] = {"description": when, "content": content}
    found: dict[str, Any] = {
        "operationId": route.name,
        "summary": route.summary,
        "responses": answers,
    }
    if parameters := [*_path_parameters(route), *_query_parameters(route), *_mark(route)]:
        found["parameters"] = parameters
    if route.needs in (Needs.TOKEN, Needs.CHANGE):
        found["security"] = [{"admin_token": []}, {}]
    return found


def _refusals(route: Route) -> dict[int, str]:
    if route.needs is Needs.NOTHING:
        return {400: _USUAL[400]}
    if route.needs in (Needs.TOKEN, Needs.CHANGE):
        return _USUAL
    return {status: text for status, text in _USUAL.items() if status != 401}


def _path_parameters(route: Route) -> list[dict[str, Any]]:
    return [
        {"name": segment[1:-1], "in": "path", "required": True, "schema": {"type": "string"}}
        for segment in route.segments
        if segment.startswith("{")
    ]


def _query_parameters(route: Route) -> list[dict[str, Any]]:
    (schema,), components = msgspec.json.schema_components([route.query], ref_template="{name}")
    fields = components[schema["$ref"]]["properties"]
    return [
        {"name": name, "in": "query", "required": False, "schema": _inlined(shape, components)}
        for name, shape in fields.items()
    ]


def _inlined(shape: dict[str, Any], components: dict[str, Any]) -> dict[str, Any]:
    """A field's schema, of which a query has no null, with the enumerations in it."""
    choices = [c for c in shape.get("anyOf", [shape]) if c.get("type") != "null"]
    found = dict(choices[0])
    found.update({k: v for k, v in shape.items() if k not in ("anyOf", "$ref") and v is not None})
    if "$ref" in found:
        found.update(components[found.pop("$ref")])
    return found


def _mark(route: Route) -> list[dict[str, Any]]:
    if route.needs is not Needs.CHANGE:
        return []
    text = "any value; needed where there is no Authorization, for no form can send it"
    return [
        {
            "name": MARK,
            "in": "header",
            "required": False,
            "description": text,
            "schema": {"type": "string"},
        }
    ]
