"""JSON Schema for user data, step and task configs: compiled once, offline, linear-time patterns, faults as sentences.

Messages never hold the checked values, so rendered configs with secrets in them may be checked too.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from typing import Any

import jsonschema_rs
import orjson
from jsonschema_rs import ValidationError

from automation_lab.core.exceptions import Invalid
from automation_lab.core.expressions import has_expression, nearest_hint, path_text, reveal

Schema = dict[str, Any] | bool

MAX_SCHEMA_BYTES = 64 * 1024
MAX_ERRORS = 50
MAX_LISTED = 20

_PATTERNS = jsonschema_rs.RegexOptions()
_UNKNOWN_PROPERTIES = (
    jsonschema_rs.ValidationErrorKind.AdditionalProperties,
    jsonschema_rs.ValidationErrorKind.UnevaluatedProperties,
)
# Rules that look at the inside of a value: what an expression will give there can turn each of them.
_RULES_ON_CONTENTS = {"const", "contains", "enum", "not", "oneOf", "unevaluatedItems", "uniqueItems"}


@dataclass(frozen=True)
class SchemaFault:
    """One thing wrong: where (`steps[0].config.url`, empty for the whole), the sentence, and the schema's keyword."""

    path: str
    message: str
    rule: str


def compile(schema: Schema, *, formats: bool = True) -> jsonschema_rs.Validator:
    """The validator of `schema`, cached by content. Raises Invalid with the reason when it is no usable schema."""
    if not isinstance(schema, dict | bool):
        raise Invalid("A JSON Schema is an object, true or false.", code="schema")
    try:
        text = orjson.dumps(schema)
    except (TypeError, ValueError, RecursionError):
        raise Invalid("The schema is not JSON that can be stored, or it is nested too deep.", code="schema") from None
    if len(text) > MAX_SCHEMA_BYTES:
        raise Invalid(f"The schema is larger than {MAX_SCHEMA_BYTES // 1024} kB.", code="schema")
    return _compiled(text, formats)


def check_schema(schema: Schema) -> None:
    """Raises Invalid with the reason unless `schema` is a JSON Schema that `validate` can use."""
    compile(schema)


def validate(data: Any, schema: Schema, *, max_errors: int = 20, formats: bool = True) -> list[SchemaFault]:
    """What is wrong with `data`, at most `max_errors` (and never more than 50) faults; any `data` is safe.

    Raises Invalid when `schema` itself is unusable.
    """
    validator = compile(schema, formats=formats)
    return _faults(_errors(validator, data), schema, min(max_errors, MAX_ERRORS))


def check_config(config: Any, schema: Schema, *, templated: bool) -> list[SchemaFault]:
    """What is wrong with the config of a step or task.

    With `templated` (on save) a text that holds `{{ … }}` may stand for any value, so faults that it may still cure are
    left out. Without (after rendering) the schema holds strictly; secrets are opened for the check.
    """
    plain = config if templated else reveal(config)
    errors = _errors(compile(schema), plain)
    if templated:
        errors = (error for error in errors if not _may_be_cured(error))
    return _faults(errors, schema, MAX_ERRORS)


def with_defaults(config: dict[str, Any], schema: Schema) -> dict[str, Any]:
    """A copy of `config` with every `default` that the schema gives to an absent property, in nested objects too."""
    filled = _filled(config, schema, schema)
    return filled if isinstance(filled, dict) else config


@lru_cache(maxsize=256)
def _compiled(text: bytes, formats: bool) -> jsonschema_rs.Validator:
    try:
        return jsonschema_rs.validator_for(
            orjson.loads(text), validate_formats=formats, retriever=_refuse, pattern_options=_PATTERNS
        )
    except ValidationError as error:
        raise Invalid(_schema_reason(error), code="schema") from None
    except ValueError:
        raise Invalid("The schema is nested too deep.", code="schema") from None


def _refuse(uri: str) -> Any:
    raise LookupError("outside references are not read")


def _schema_reason(error: ValidationError) -> str:
    if "outside references are not read" in error.message:
        return "The schema refers to another document; only references inside it, such as `#/$defs/name`, are read."
    if "meta-schema" in error.message:
        return "The schema names an unknown `$schema`; leave it out or use a published JSON Schema draft."
    place = f" at `{path_text(error.instance_path)}`" if error.instance_path else ""
    return f"This is not a valid JSON Schema{place}: {error.message[:300]}"


def _errors(validator: jsonschema_rs.Validator, data: Any) -> Iterator[ValidationError]:
    try:
        yield from validator.iter_errors(data)
    except ValueError as error:  # data that JSON does not have
        yield _refused_data(error)


def _refused_data(error: ValueError) -> ValidationError:
    deep = "Recursion" in str(error)
    message = "is nested too deep" if deep else "holds something that JSON does not have"
    kind: Any = _Refused(message)
    return ValidationError(message, message, [], [], [], kind, None)


@dataclass(frozen=True)
class _Refused:
    """Stands for the kind of error that the library raises instead of yielding."""

    message: str
    name: str = "json"


def _may_be_cured(error: ValidationError) -> bool:
    """Whether rendering the expressions in the faulty value can make the fault go away."""
    value, rule = error.instance, error.kind.name
    if isinstance(value, str):
        return has_expression(value)
    if rule in {"anyOf", "oneOf"} and (branches := getattr(error.kind, "context", None)):
        return _holds_expression(value) and any(all(map(_may_be_cured, branch)) for branch in branches)
    if rule in _RULES_ON_CONTENTS or _is_conditional(error):
        return _holds_expression(value)
    return False


def _is_conditional(error: ValidationError) -> bool:
    """Whether the rule applies only because of a sibling's value (`if`), which an expression may change."""
    return "then" in error.schema_path or "else" in error.schema_path


def _holds_expression(value: Any) -> bool:
    if isinstance(value, str):
        return has_expression(value)
    if isinstance(value, dict):
        return any(map(_holds_expression, value.values()))
    return isinstance(value, list) and any(map(_holds_expression, value))


def _faults(errors: Iterator[ValidationError], schema: Schema, limit: int) -> list[SchemaFault]:
    return list(islice((fault for error in errors for fault in _faults_of(error, schema)), limit))


def _faults_of(error: ValidationError, schema: Schema) -> Iterator[SchemaFault]:
    """The faults of one error; a missing or unknown property is named by its own path."""
    path, rule, kind = error.instance_path, error.kind.name, error.kind
    if rule in {"anyOf", "oneOf"} and (ways := _required_ways(schema, error.schema_path)):
        yield SchemaFault(path_text(path), _choice(path, ways, several=_fits_several(kind)), rule)
    elif rule in {"anyOf", "oneOf"} and (nearest := _nearest_branch(error)):
        yield from _faults_of(nearest, schema)
    elif isinstance(kind, jsonschema_rs.ValidationErrorKind.Required):
        yield SchemaFault(path_text([*path, kind.property]), f"{_name([*path, kind.property])} is required.", rule)
    elif isinstance(kind, _UNKNOWN_PROPERTIES):
        known = _known_properties(schema, error.schema_path)
        for name in kind.unexpected:
            yield SchemaFault(path_text([*path, name]), _unknown_property([*path, name], known), rule)
    else:
        yield SchemaFault(path_text(path), f"{_name(path)} {_sentence(error)}.", rule)


def _required_ways(schema: Any, path: list[str | int]) -> list[list[str]]:
    """The properties that each alternative at `path` asks for; none if an alternative asks for more than that."""
    ways = _part_of(schema, path)
    is_plain = isinstance(ways, list) and all(isinstance(way, dict) and way.keys() == {"required"} for way in ways)
    return [way["required"] for way in ways] if is_plain else []


def _choice(path: list[str | int], ways: list[list[str]], *, several: bool) -> str:
    """The sentence for who gave none of the `ways`, or several where one is wanted."""
    names = [" with ".join(f"`{name}`" for name in way) for way in ways]
    listed = f"{', '.join(names[:-1])} {'and' if several else 'or'} {names[-1]}"
    place = f"In {_name(path)} give" if path else "Give"
    return f"{place} {'only one of ' if several else ''}{listed}."


def _nearest_branch(error: ValidationError) -> ValidationError | None:
    """The only fault of the only branch whose type fits: then its sentence says more than `fits no alternative`."""
    branches = getattr(error.kind, "context", None) or []
    fitting = [branch for branch in branches if not any(_is_other_type(error, fault) for fault in branch)]
    return fitting[0][0] if len(fitting) == 1 and len(fitting[0]) == 1 else None


def _is_other_type(parent: ValidationError, fault: ValidationError) -> bool:
    """Whether the branch was never meant: another type, or another value of a property that tells branches apart."""
    own_type = fault.kind.name == "type" and len(fault.instance_path) == len(parent.instance_path)
    return own_type or fault.kind.name == "const"


def _name(path: list[str | int]) -> str:
    return f"`{path_text(path)}`" if path else "The value"


def _unknown_property(path: list[str | int], known: list[str]) -> str:
    listed = f" Known are {', '.join(f'`{name}`' for name in known[:MAX_LISTED])}." if known else ""
    return f"{_name(path)} is not known here.{nearest_hint(str(path[-1]), known) or listed}"


def _known_properties(schema: Any, path: list[str | int]) -> list[str]:
    """The properties declared beside the `additionalProperties` that `path` leads to."""
    around = _part_of(schema, path[:-1])
    return list(around.get("properties", {})) if isinstance(around, dict) else []


def _part_of(schema: Any, path: list[str | int]) -> Any:
    """What `path` leads to inside `schema`, or None; references are not followed."""
    for part in path:
        fits = isinstance(schema, dict) and part in schema
        fits = fits or (isinstance(schema, list) and isinstance(part, int) and part < len(schema))
        if not fits:
            return None
        schema = schema[part]
    return schema


_SENTENCES = {
    "anyOf": "fits none of the allowed forms",
    "contains": "must contain an item of the wanted form",
    "contentEncoding": "has another encoding than the wanted one",
    "contentMediaType": "has other contents than the wanted ones",
    "dependentRequired": "needs another property beside it",
    "falseSchema": "is not allowed",
    "not": "has a form that is not allowed",
    "propertyNames": "has a property whose name is not allowed",
    "unevaluatedItems": "has more items than allowed",
    "uniqueItems": "must not hold the same item twice",
}
_LIMITS = {
    "additionalItems": "must have at most {limit} {items}",
    "exclusiveMaximum": "must be less than {limit}",
    "exclusiveMinimum": "must be greater than {limit}",
    "maximum": "must be at most {limit}",
    "minimum": "must be at least {limit}",
    "maxItems": "must have at most {limit} {items}",
    "minItems": "must have at least {limit} {items}",
    "maxLength": "must be at most {limit} characters long",
    "minLength": "must be at least {limit} characters long",
    "maxProperties": "must have at most {limit} properties",
    "minProperties": "must have at least {limit} properties",
}
_TYPES = {"array": "a list", "boolean": "true or false", "integer": "a whole number", "number": "a number"}
_TYPES |= {"object": "an object", "string": "text", "null": "null"}
_FORMATS = {
    "date": "a date such as 2026-01-31",
    "date-time": "an instant such as 2026-01-31T09:00:00Z",
    "email": "an e-mail address",
    "hostname": "a host name",
    "ipv4": "an IPv4 address",
    "ipv6": "an IPv6 address",
    "regex": "a regular expression",
    "uri": "a complete URL such as https://example.com/path",
    "uuid": "a UUID",
}


def _sentence(error: ValidationError) -> str:
    kind: Any = error.kind
    if isinstance(kind, _Refused):
        return kind.message
    if kind.name == "oneOf":
        return (
            "fits several of the allowed forms; exactly one is wanted" if _fits_several(kind) else _SENTENCES["anyOf"]
        )
    if kind.name in _LIMITS:
        return _LIMITS[kind.name].format(limit=kind.limit, items="item" if kind.limit == 1 else "items")
    return _SENTENCES.get(kind.name) or _wanted(kind)


def _fits_several(kind: Any) -> bool:
    return isinstance(kind, jsonschema_rs.ValidationErrorKind.OneOfMultipleValid)


def _wanted(kind: Any) -> str:
    if kind.name == "type":
        return f"must be {' or '.join(_TYPES.get(name, name) for name in sorted(kind.types, key='null'.__eq__))}"
    if kind.name == "enum":
        more = ", …" if len(kind.options) > MAX_LISTED else ""
        return f"must be one of {', '.join(map(_shown, kind.options[:MAX_LISTED]))}{more}"
    if kind.name == "const":
        return f"must be {_shown(kind.expected_value)}"
    if kind.name == "format":
        return f"must be {_FORMATS.get(kind.format, f'in the format `{kind.format}`')}"
    if kind.name == "pattern":
        return f"must match the pattern `{kind.pattern[:200]}`"
    if kind.name == "multipleOf":
        return f"must be a multiple of {kind.multiple_of}"
    return f"breaks the rule `{kind.name}`"


def _shown(option: Any) -> str:
    return option if isinstance(option, str) and option else json.dumps(option, ensure_ascii=False, default=str)


def _filled(value: Any, schema: Any, root: Any, depth: int = 64) -> Any:
    schema = _resolved(schema, root)
    if not isinstance(schema, dict) or not depth:
        return value
    if isinstance(value, list) and "items" in schema:
        return [_filled(item, schema["items"], root, depth - 1) for item in value]
    if not isinstance(value, dict):
        return value
    properties = schema.get("properties", {})
    filled = {key: _filled(item, properties.get(key), root, depth - 1) for key, item in value.items()}
    for key, wanted in properties.items():
        wanted = _resolved(wanted, root)
        if key not in filled and isinstance(wanted, dict) and "default" in wanted:
            filled[key] = deepcopy(wanted["default"])
    return filled


def _resolved(schema: Any, root: Any) -> Any:
    """`schema`, or what its `$ref` inside `root` names."""
    for _ in range(20):
        if not isinstance(schema, dict) or not str(schema.get("$ref", "")).startswith("#/"):
            break
        target = root
        for part in schema["$ref"][2:].split("/"):
            target = target.get(part.replace("~1", "/").replace("~0", "~")) if isinstance(target, dict) else None
        schema = target
    return schema
