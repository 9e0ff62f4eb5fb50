"""What msgspec says of settings that don't fit a struct, in our own words: the place, found, allowed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from msgspec import Struct, inspect

from secretsd.config.reader import nearest, shown
from secretsd.model import NAME_PATTERN

Words = Mapping[type, str]
"""How the file's language calls the types of its values: `{dict: "a mapping"}` in YAML, "a table" in TOML."""

_PLACE: Final = re.compile(r"(?P<said>.*) - at (?P<key>`key` in )?`\$(?P<path>[^`]*)`", re.DOTALL)
_STEP: Final = re.compile(r"\.([^.\[\]]+)|\[([0-9]+|\.\.\.)\]")
_UNKNOWN: Final = re.compile(r"Object contains unknown field `(?P<key>.*)`", re.DOTALL)
_MISSING: Final = re.compile(r"Object missing required field `(?P<key>.*)`")
_OTHER_TYPE: Final = re.compile(r"Expected `[a-z| ]+`|Invalid enum value ", re.DOTALL)
_SOME_VALUE: Final = "..."
"""What stands in a path for the key of a mapping whose keys are free."""


class Misfit(NamedTuple):
    """Where something doesn't fit, by keys and places in lists, and why not."""

    path: tuple[str, ...]
    complaint: str


def reworded(said: str, kind: type[Struct], given: object, words: Words, *, beside: tuple[str, ...] = ()) -> Misfit:
    """Return what msgspec `said` when `given` was no `kind`; `beside` are keys that are taken at the top elsewhere.

    What was found is told by its type alone: by mistake it may be a secret. What a `__post_init__` said stays as it is.
    """
    placed = _PLACE.fullmatch(said)
    path: tuple[str, ...] = ()
    if placed is not None:
        said = placed["said"]
        path = tuple(key or place for key, place in _STEP.findall(placed["path"]))
    type_ = _type_at(inspect.type_info(kind), path)
    if (unknown := _UNKNOWN.fullmatch(said)) is not None:
        known = (*_members(type_), *(() if path else beside))
        near = nearest(unknown["key"], known)
        hint = f"did you mean {near}? " if near else ""
        listed = f"; {hint}allowed: {', '.join(known)}" if known else ""
        return Misfit(path, f"unknown key {shown(unknown['key'])}{listed}")
    if (missing := _MISSING.fullmatch(said)) is not None:
        wanted = _type_at(type_, (missing["key"],))
        return Misfit(path, f"{missing['key']} is missing; allowed: {allowed(wanted, words)}")
    if _OTHER_TYPE.match(said) is None:
        return Misfit(path, said)
    if placed is not None and placed["key"]:
        keys = _only(type_, inspect.DictType)
        return Misfit(path, f"a key doesn't fit; allowed: {allowed(keys and keys.key_type, words)}")
    if _SOME_VALUE in path:
        # msgspec doesn't say at which key.
        return Misfit(path[: path.index(_SOME_VALUE)], f"a value doesn't fit; allowed: {allowed(type_, words)}")
    return Misfit(path, f"found {_found(given, path, words)}; allowed: {allowed(type_, words)}")


def allowed(type_: inspect.Type | None, words: Words) -> str:
    """Return in words what `type_` takes; null, which stands for a key that isn't given, is left out."""
    if isinstance(type_, inspect.Metadata):
        return _described(type_) or allowed(type_.type, words)
    if isinstance(type_, inspect.UnionType):
        one_of = (one for one in type_.types if not isinstance(one, inspect.NoneType))
        return " or ".join(dict.fromkeys(allowed(one, words) for one in one_of))
    return _scalar(type_, words) or _collection(type_, words) or "what the documentation says"


def _described(type_: inspect.Metadata) -> str | None:
    """Return the words that a pattern comes with, as people read them more easily than a regular expression."""
    text = type_.type
    if not isinstance(text, inspect.StrType) or text.pattern in {None, NAME_PATTERN}:
        return None
    description = (type_.extra_json_schema or {}).get("description")
    return description if isinstance(description, str) else None


def _scalar(type_: inspect.Type | None, words: Words) -> str | None:
    match type_:
        case inspect.StrType(pattern=pattern) if pattern == NAME_PATTERN:
            return "a secret's name (letters, digits, dot, underscore, hyphen; a letter or digit first; at most 128)"
        case inspect.StrType(pattern=pattern):
            matching = "" if pattern is None else f" that matches {pattern}"
            return words[str] + _lengths(type_.min_length, type_.max_length, "characters") + matching
        case inspect.IntType() | inspect.FloatType():
            return ("an integer" if isinstance(type_, inspect.IntType) else "a number") + _limits(type_)
        case inspect.BoolType():
            return "true or false"
        case inspect.LiteralType():
            return ", ".join(map(str, type_.values))
    return None


def _collection(type_: inspect.Type | None, words: Words) -> str | None:
    match type_:
        case inspect.ListType() | inspect.VarTupleType():
            size = _lengths(type_.min_length, type_.max_length, "members")
            return f"{words[list]}{size}, each {allowed(type_.item_type, words)}"
        case inspect.TupleType():
            return f"{words[list]} of {len(type_.item_types)} members"
        case inspect.StructType():
            return f"{words[dict]} with {', '.join(_members(type_))}"
        case inspect.DictType():
            return f"{words[dict]} whose values are each {allowed(type_.value_type, words)}"
    return None


def _lengths(least: int | None, most: int | None, what: str) -> str:
    if least and most:
        return f" of {least} {what}" if least == most else f" of {least} to {most} {what}"
    if least:
        return ", not empty" if least == 1 else f" of at least {least} {what}"
    return f" of at most {most} {what}" if most else ""


def _limits(type_: inspect.IntType | inspect.FloatType) -> str:
    limits = ((type_.ge, "at least "), (type_.gt, "more than "), (type_.le, "at most "), (type_.lt, "less than "))
    if type_.ge is not None and type_.le is not None:
        return f" from {type_.ge} to {type_.le}"
    given = [f"{word}{limit}" for limit, word in limits if limit is not None]
    return f", {' and '.join(given)}" if given else ""


def _type_at(type_: inspect.Type | None, path: tuple[str, ...]) -> inspect.Type | None:
    """Return the type that stands at `path` below `type_`; None where that isn't plain to see."""
    for step in path:
        if (struct := _only(type_, inspect.StructType)) is not None:
            type_ = next((field.type for field in struct.fields if field.encode_name == step), None)
        elif (mapping := _only(type_, inspect.DictType)) is not None:
            type_ = mapping.value_type
        elif (fixed := _only(type_, inspect.TupleType)) is not None and step.isdigit():
            type_ = fixed.item_types[int(step)] if int(step) < len(fixed.item_types) else None
        elif (listed := _only(type_, inspect.ListType) or _only(type_, inspect.VarTupleType)) is not None:
            type_ = listed.item_type
        else:
            return None
    return type_


def _members(type_: inspect.Type | None) -> tuple[str, ...]:
    struct = _only(type_, inspect.StructType)
    return () if struct is None else tuple(field.encode_name for field in struct.fields)


def _only(type_: inspect.Type | None, wanted: type[Any]) -> Any:
    """Return `type_`, or the only one of a union, where it is a `wanted`."""
    while isinstance(type_, inspect.Metadata):
        type_ = type_.type
    if isinstance(type_, inspect.UnionType):
        fitting = [one for one in type_.types if _only(one, wanted) is not None]
        return _only(fitting[0], wanted) if len(fitting) == 1 else None
    return type_ if isinstance(type_, wanted) else None


def _found(given: Any, path: tuple[str, ...], words: Words) -> str:
    for step in path:
        if isinstance(given, list) and step.isdigit() and int(step) < len(given):
            given = given[int(step)]
        elif isinstance(given, Mapping):
            given = given.get(step)
    kind = words.get(type(given), "something else")
    return f"{kind} of {len(given)}" if isinstance(given, list) else kind
