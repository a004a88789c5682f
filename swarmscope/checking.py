"""Pydantic's findings in the words of the file: a line, a dotted key, a sentence.

Scope: ``validate`` runs a model over a ``Value`` tree and notes every mistake in ``Findings``. Limits: knows
the shapes that our models have (nested models, lists, unions told apart by a tag), not all that pydantic can.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

from swarmscope.yamlsource import Findings, Value, did_you_mean, dotted


class Strict(BaseModel):
    """Base of the shapes users write: unknown keys are mistakes, and nothing is converted silently."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


M = TypeVar("M", bound=BaseModel)

_WANTED = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "string_type": "text",
    "bool_type": "true or false",
    "list_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
}
_BOUNDS = {
    "greater_than_equal": ("at least", "ge"),
    "greater_than": ("more than", "gt"),
    "less_than_equal": ("at most", "le"),
    "less_than": ("less than", "lt"),
}


def validate(model: type[M], value: Value, findings: Findings) -> M | None:
    """``value`` as ``model``, or None with every mistake noted at the line of its key."""
    try:
        return model.model_validate(value.plain())
    except ValidationError as problem:
        for error in problem.errors(include_url=False):
            path, parent = _walk(model, error["loc"])
            if error["type"] == "union_tag_invalid":
                path = (*path, error["ctx"]["discriminator"].strip("'"))
            findings.add(value.line_at(path), dotted(*path), _sentence(error, path, parent))
        return None


def _walk(
    model: type[BaseModel], loc: Sequence[str | int]
) -> tuple[tuple[str | int, ...], type[BaseModel] | None]:
    """(the path in the file, without pydantic's union tags · the model whose key is the last part)."""
    here: Any = model
    parent: type[BaseModel] | None = None
    path: list[str | int] = []
    for part in loc:
        here = _bare(here)
        members = typing.get_args(here) if typing.get_origin(here) in (typing.Union, types.UnionType) else ()
        if members and isinstance(part, str):
            here = next((m for m in members if _tagged(m, part)), None)
            continue
        path.append(part)
        if isinstance(here, type) and issubclass(here, BaseModel):
            parent = here
            field = here.model_fields.get(str(part))
            here = field.annotation if field else None
        else:
            parent = None
            here = (typing.get_args(here) or (None,))[-1 if isinstance(part, str) else 0]
    return tuple(path), parent


def _bare(kind: Any) -> Any:
    """``kind`` without ``Annotated`` and ``| None``."""
    if typing.get_origin(kind) is Annotated:
        return _bare(typing.get_args(kind)[0])
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        rest = [m for m in typing.get_args(kind) if m is not type(None)]
        if len(rest) == 1:
            return _bare(rest[0])
    return kind


def _tagged(member: Any, tag: str) -> bool:
    fields: Mapping[str, Any] = getattr(_bare(member), "model_fields", {})
    return any(tag in typing.get_args(field.annotation) for field in fields.values())


def _sentence(error: ErrorDetails, path: Sequence[str | int], parent: type[BaseModel] | None) -> str:
    kind, context, given = error["type"], error.get("ctx", {}), error["input"]
    if kind == "missing":
        return "is missing"
    if kind == "extra_forbidden":
        return f"unknown key{did_you_mean(str(path[-1]), parent.model_fields if parent else ())}"
    if kind in _WANTED:
        shown = isinstance(given, str | int | float) and not isinstance(given, bool)
        got = repr(given) if shown else Value(0, given).kind
        return f"must be {_WANTED[kind]}, not {got}"
    if kind in _BOUNDS:
        words, bound = _BOUNDS[kind]
        return f"must be {words} {context[bound]}, not {given}"
    if kind == "literal_error":
        return f"must be {context['expected']}, not {given!r}"
    if kind == "union_tag_invalid":
        return f"must be {context['expected_tags'].replace(', ', ' or ')}, not {context['tag']!r}"
    if kind == "union_tag_not_found":
        return f"{context['discriminator']} is missing"
    if kind == "too_short":
        return "must not be empty"
    if kind == "value_error":
        return str(context["error"])
    return error["msg"]
