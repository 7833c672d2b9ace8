"""Plain values to attrs classes, with errors that name the key. Pure.

cattrs was measured and set aside: every message here (path, nearest known key, what was expected
and what was there) and the one-or-many rule for lists would have replaced its own.
"""

from __future__ import annotations

import difflib
import functools
import math
import re
import types
import typing
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal, TypeVar

import attrs

from pymirror.core.errors import ConfigError
from pymirror.core.flags import Flag

T = TypeVar("T")


def key(
    default: Any = attrs.NOTHING,
    *,
    env: str | None = None,
    help: str = "",
    at: str | None = None,
    factory: Callable[[], Any] | None = None,
    validator: Any = None,
    converter: Any = None,
    flags: Sequence[Flag] = (),
) -> Any:
    """A key of a configuration class: `attrs.field` and what the loader needs.

    env: the variable without its prefix ("FILE_MODE": PYMIRROR_FILE_MODE, or MIRRORD_FILE_MODE).
    help: one line for docs and editors. at: dotted place in the file where it is not
    `<section>.<field name>`. flags: flags that set its variable. Lists take one
    value or many.
    """
    if flags and not env:
        raise TypeError(f"{flags[0].long}: a flag is for a key that has a variable (env)")
    return attrs.field(
        default=attrs.Factory(factory) if factory is not None else default,
        validator=validator,
        converter=converter,
        metadata={"env": env, "help": help, "at": at, "flags": tuple(flags)},
    )


def place_of(attribute: attrs.Attribute[Any], prefix: str = "") -> str:
    """The dotted place of a key in the file, in a section that begins with `prefix`."""
    return attribute.metadata.get("at") or f"{prefix}{attribute.name}"


def regex(_instance: object, attribute: attrs.Attribute[Any], value: Any) -> None:
    """Validator: each item (a dict's keys) is a regular expression of Python's `re`."""
    for pattern in [value] if isinstance(value, str) else value or ():
        try:
            re.compile(pattern)
        except (re.error, RecursionError, OverflowError) as error:
            raise ValueError(f"{attribute.name}: {pattern!r} is not a regular expression: {error}") from error


def positive(_instance: object, attribute: attrs.Attribute[Any], value: Any) -> None:
    """Validator: a number above 0; None is left alone."""
    if value is not None and value <= 0:
        raise ValueError(f"{attribute.name}: must be above 0, got {value}")


def not_negative(_instance: object, attribute: attrs.Attribute[Any], value: Any) -> None:
    """Validator: 0 or a number above; None is left alone."""
    if value is not None and value < 0:
        raise ValueError(f"{attribute.name}: must not be negative, got {value}")


class Several(ValueError):
    """What is wrong with the items of one field, each an error of its own: told together."""

    def __init__(self, found: Sequence[ValueError]) -> None:
        super().__init__(found[0].args[0])
        self.found = tuple(found)


def every(check: Callable[[Any], object]) -> Any:
    """Validator for a list: `check(item)` raises ValueError(words) or ValueError(words, hint) for a bad item.

    Each bad item is told, with its number.
    """

    def validator(_instance: object, attribute: attrs.Attribute[Any], value: Any) -> None:
        found = []
        for number, item in enumerate(value or (), 1):
            try:
                check(item)
            except ValueError as error:
                words, *hint = error.args
                found.append(ValueError(f"{attribute.name}: entry {number}, {words}", *hint))
        if found:
            raise Several(found)

    return validator


@attrs.frozen
class OneOf:
    """Made by `one_of`; the schema reads `allowed`."""

    allowed: tuple[str, ...]

    def __call__(self, _instance: object, attribute: attrs.Attribute[Any], value: Any) -> None:
        if value not in self.allowed:
            raise ValueError(f"{attribute.name}: {value!r} is not one of {', '.join(self.allowed)}")


def one_of(*allowed: str) -> OneOf:
    """Validator: the value is one of `allowed`."""
    return OneOf(allowed)


class Faults:
    """Collects the ConfigErrors of parts that do not depend on each other, to tell all at once."""

    def __init__(self) -> None:
        self._found: list[ConfigError] = []

    def add(self, error: ConfigError) -> None:
        told = {each.message for each in self._found}  # a key of several features is wrong once
        self._found += [each for each in error.all() if each.message not in told]

    @contextmanager
    def part(self) -> Iterator[None]:
        """What is raised here is kept, and the next part goes on."""
        try:
            yield
        except ConfigError as error:
            self.add(error)

    def and_refusals(
        self, cls: type, values: Mapping[str, Any], place: str, places: Mapping[str, str] | None = None
    ) -> None:
        """If anything was wrong, also what the validators of `cls` say of the values that could be read."""
        if self._found:
            for error in refusals(cls, values, partly=True):
                self.add(worded(cls, error, place, places))

    def tell(self) -> None:
        """ConfigError if there were any: the first, which carries the others."""
        if self._found:
            raise joined(self._found)


def joined(found: Sequence[ConfigError]) -> ConfigError:
    """The first, which carries the others."""
    first, *others = found
    first.also = tuple(others)
    return first


def near(name: str, known: Sequence[str]) -> str:
    """A question for the nearest of the known names; empty when none is near."""
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    return f"did you mean {close[0]!r}?" if close else ""


def nearest(name: str, known: Sequence[str]) -> str:
    """The hint for an unknown key."""
    return near(name, known) or (f"known here: {', '.join(sorted(known))}" if known else "")


def hints(cls: type) -> dict[str, Any]:
    """Field name → resolved type of an attrs class."""
    return _hints(cls)


@functools.cache
def _hints(cls: Hashable) -> dict[str, Any]:
    return typing.get_type_hints(cls)


def structure(cls: type[T], value: Mapping[str, Any], place: str) -> T:
    """An instance of the attrs class `cls` from a mapping. ConfigError names the key below `place`."""
    fields = {a.name: a for a in attrs.fields(cls) if a.init}  # type: ignore[arg-type]
    faults, made = Faults(), {}
    for name, item in value.items():
        if name not in fields:
            faults.add(ConfigError(f"{place}.{name}", "unknown key", nearest(str(name), list(fields))))
        elif item is not None:
            with faults.part():
                made[name] = convert(hints(cls)[name], item, f"{place}.{name}")
    for name, a in fields.items():
        if a.default is attrs.NOTHING and value.get(name) is None:
            faults.add(ConfigError(f"{place}.{name}", "this key is required"))
    faults.and_refusals(cls, made, place)
    faults.tell()
    return build(cls, made, place)


def build(cls: type[T], values: Mapping[str, Any], place: str, places: Mapping[str, str] | None = None) -> T:
    """Call `cls`; what its validators say becomes a ConfigError.

    A message that begins with a field's name and a colon is about that field: its place is
    `places[name]`, or the name below `place`.
    """
    try:
        return cls(**values)
    except ConfigError:
        raise
    except (ValueError, TypeError) as error:
        found = refusals(cls, values) or [error]
        raise joined([worded(cls, each, place, places) for each in found]) from error


def refusals(cls: type, values: Mapping[str, Any], partly: bool = False) -> list[Exception]:
    """What each validator of `cls` says of its value, then the class of all of them, where it is not of a
    field whose value is wrong in itself. partly: some values could not be read, so the class is not heard."""
    found: list[Exception] = []
    made, whole = _unchecked(cls, values)
    for a in attrs.fields(cls):
        try:
            if a.validator is not None and a.name in values:
                a.validator(made, a, getattr(made, a.name))
        except Several as error:
            found += error.found
        except (ValueError, TypeError) as error:
            found.append(error)
    told = {str(error).partition(":")[0] for error in found}
    if not partly and isinstance(whole, ValueError) and str(whole).partition(":")[0] not in told:
        found.append(whole)
    return found


def _unchecked(cls: type, values: Mapping[str, Any]) -> tuple[Any, Exception | None]:
    """An instance that no validator has seen; where the class refuses that too, its values alone and why."""
    try:
        with attrs.validators.disabled():
            return cls(**values), None
    except (ValueError, TypeError) as error:
        made: Any = object.__new__(cls)
        for name, value in values.items():
            object.__setattr__(made, name, value)
        return made, error


def worded(cls: type, error: Exception, place: str, places: Mapping[str, str] | None = None) -> ConfigError:
    """What a validator of `cls` said, at the field it is about."""
    text = error.args[0] if error.args and isinstance(error.args[0], str) else str(error)
    hint = str(error.args[1]) if isinstance(error, ValueError) and len(error.args) > 1 else ""
    name, colon, rest = text.partition(": ")
    if not colon or name not in {a.name for a in attrs.fields(cls)}:
        return ConfigError(place, text, hint)
    return ConfigError((places or {}).get(name) or (f"{place}.{name}" if place else name), rest, hint)


def convert(kind: Any, value: Any, place: str) -> Any:
    """`value` as `kind` (a type or a typing form); ConfigError names what was expected."""
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if kind is Any:
        return value
    if origin in (typing.Union, types.UnionType):
        return _union(inner, value, place)
    if origin is Literal:
        if value not in inner:
            raise ConfigError(place, f"expected one of {', '.join(map(str, inner))}, got {value!r}")
        return value
    if origin in (list, tuple) and inner:
        several = isinstance(value, list)
        items, faults = [], Faults()
        for i, item in enumerate(value if several else [value]):
            with faults.part():
                items.append(convert(inner[0], item, f"{place}[{i}]" if several else place))
        faults.tell()
        return tuple(items) if origin is tuple else items
    if origin is dict:
        if not isinstance(value, Mapping):
            raise ConfigError(place, f"expected a mapping, got {said(value)}")
        return {str(name): convert(inner[1], item, f"{place}.{name}") for name, item in value.items()}
    if isinstance(kind, type) and attrs.has(kind):
        return nested(kind, value, place)
    return _plain(kind, value, place)


def nested(kind: type, value: Any, place: str) -> Any:
    """An attrs class from a mapping, or from its short form where it has one."""
    if isinstance(value, Mapping):
        return structure(kind, value, place)
    short = getattr(kind, "from_short", None)
    if short is None:
        raise unfit(place, forms(kind), value, keys_of(kind))
    try:
        given = convert(_short_form(short), value, place)
    except ConfigError as error:
        raise unfit(place, forms(kind), value, keys_of(kind)) if error.place == place else error from None
    try:
        return short(given)
    except ConfigError:
        raise
    except (ValueError, TypeError) as error:
        raise worded(kind, error, place) from error


def _short_form(short: Callable[..., Any]) -> Any:
    return typing.get_type_hints(short).get("value", Any)


def keys_of(cls: type) -> list[str]:
    """The keys of an attrs class, but for those that stand in another section of the file."""
    return [a.name for a in attrs.fields(cls) if a.init and not a.metadata.get("at")]


def forms(kind: Any) -> list[str]:
    """What a value of `kind` may be written as, in words."""
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return [words for each in inner for words in forms(each)]
    if kind is type(None):
        return []
    if origin is Literal:
        return [f"one of {', '.join(map(str, inner))}"]
    if origin in (list, tuple):
        return [*forms(inner[0]), "a list"]
    if isinstance(kind, type) and attrs.has(kind):
        short = getattr(kind, "from_short", None)
        return [*(forms(_short_form(short)) if short is not None else ()), "a mapping"]
    return ["a mapping"] if origin is dict else [_NAMES.get(kind, str(kind))]


def unfit(place: str, allowed: Sequence[str], value: Any, known: Sequence[str] = ()) -> ConfigError:
    """The value is none of the allowed forms; known: keys of a mapping that would be one."""
    *others, last = dict.fromkeys(allowed)
    words = f"{', '.join(others)} or {last}" if others else last
    return ConfigError(place, f"expected {words}, got {said(value)}", nearest("", known))


def _union(inner: tuple[Any, ...], value: Any, place: str) -> Any:
    if value is None and type(None) in inner:
        return None
    errors = []
    # A plain type that fits exactly comes first, so that 3 stays a number beside `str`.
    for kind in sorted((k for k in inner if k is not type(None)), key=lambda k: type(value) is not k):
        try:
            return convert(kind, value, place)
        except ConfigError as error:
            errors.append(error)
    if len(errors) == 1:
        raise errors[0]
    raise unfit(place, [words for each in inner for words in forms(each)], value)


def _plain(kind: Any, value: Any, place: str) -> Any:
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(value, float) and not math.isfinite(value):
        raise ConfigError(place, f"expected a finite number, got {value}")
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise ConfigError(place, f"expected {_NAMES.get(kind, kind)}, got {said(value)}")
    return value


_NAMES: dict[Any, str] = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}


def said(value: Any) -> str:
    """A value for an error message: its kind, and itself when it is short."""
    kind = {
        bool: "",
        int: "the number ",
        float: "the number ",
        str: "the text ",
        list: "a list ",
        dict: "a mapping ",
    }
    text = repr(value)
    return kind.get(type(value), "") + (text if len(text) <= 60 else text[:57] + "…")


def parse(kind: Any, text: str, place: str) -> Any:
    """The text of an environment variable or flag as `kind`; lists are separated by `;`."""
    inner = [k for k in typing.get_args(kind) if k is not type(None)]
    origin = typing.get_origin(kind)
    if origin in (typing.Union, types.UnionType):
        kind, origin = inner[0], typing.get_origin(inner[0])
        inner = list(typing.get_args(kind))
    if origin in (list, tuple):
        return [parse(inner[0], item, place) for item in text.split(";") if item]
    if kind is bool:
        if text not in ("true", "false"):
            raise ConfigError(place, f"expected exactly true or false, got {text!r}")
        return text == "true"
    if kind in (int, float):
        try:
            return convert(kind, kind(text), place)
        except ValueError:
            raise ConfigError(place, f"expected {_NAMES[kind]}, got {text!r}") from None
    return text
