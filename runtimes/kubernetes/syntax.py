"""What Kubernetes takes as a label, an image, a quantity, …: validators of the keys in config.py. Pure.

The API server would refuse the same, but only once the target was found, and of an image only when the
agent's Job is made. Looser than the API server where in doubt: what passes here, it still may refuse.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import attrs

from pymirror.runtimes.kubernetes.target import OBJECT

COMPONENT = r"[a-z0-9]+(?:(?:\.|__?|-+)[a-z0-9]+)*"
HOST = r"(?:[A-Za-z0-9](?:[-.A-Za-z0-9]*[A-Za-z0-9])?|\[[0-9a-fA-F:]+\])(?::[0-9]+)?"
TAG = r"[A-Za-z0-9_][-.A-Za-z0-9_]{0,127}"
IMAGE = re.compile(
    rf"(?:{HOST}/)?{COMPONENT}(?:/{COMPONENT})*(?::{TAG})?(?:@[A-Za-z0-9+._-]+:[0-9a-fA-F]{{32,}})?"
)
NAME = re.compile(r"[A-Za-z0-9](?:[-._A-Za-z0-9]{0,61}[A-Za-z0-9])?")
QUANTITY = re.compile(r"\+?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[numkMGTPE]|[KMGTPE]i|[eE][-+]?[0-9]+)?")
OPERATORS = ("Exists", "Equal", "Lt", "Gt")
EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")
PROFILES = ("RuntimeDefault", "Localhost", "Unconfined")
LEVELS = frozenset({"off", "error", "warn", "warning", "info", "debug", "trace"})


def _fail(attribute: attrs.Attribute[Any], words: str) -> None:
    raise ValueError(f"{attribute.name}: {words}")


def _keys(
    attribute: attrs.Attribute[Any], given: Mapping[str, Any], known: Iterable[str], where: str = ""
) -> None:
    for name in given:
        if name not in known:
            _fail(attribute, f"{where}unknown key {name!r}; known here: {', '.join(known)}")


def _words(
    attribute: attrs.Attribute[Any], given: Mapping[str, Any], name: str, known: Iterable[str], where: str
) -> None:
    if given.get(name) is not None and given[name] not in known:
        _fail(attribute, f"{where}{name}: {given[name]!r} is not one of {', '.join(known)}")


def image(_: object, attribute: attrs.Attribute[Any], value: str) -> None:
    """[HOST[:PORT]/]PATH[:TAG][@DIGEST]."""
    if not IMAGE.fullmatch(value):
        _fail(attribute, f"{value!r} is no image reference like registry.example/pymirror-agent:1.0")


def _qualified(name: str) -> bool:
    prefix, slash, last = name.rpartition("/")
    return bool(NAME.fullmatch(last)) and (not slash or bool(OBJECT.fullmatch(prefix)))


def annotation_keys(_: object, attribute: attrs.Attribute[Any], value: Mapping[str, str]) -> None:
    """Keys are [PREFIX/]NAME; values are any text."""
    for name in value:
        if not _qualified(name):
            _fail(
                attribute,
                f"{name!r} is no key like example.com/name: letters, digits, '-', '_' and '.', at most 63",
            )


def labels(instance: object, attribute: attrs.Attribute[Any], value: Mapping[str, str]) -> None:
    """Keys are [PREFIX/]NAME; values are empty or like a NAME."""
    annotation_keys(instance, attribute, value)
    for name, text in value.items():
        if text and not NAME.fullmatch(text):
            _fail(
                attribute,
                f"the value {text!r} of {name} is none a label may have:"
                " letters, digits, '-', '_' and '.', at most 63, a letter or digit first and last",
            )


def object_name(_: object, attribute: attrs.Attribute[Any], value: str | None) -> None:
    """The name of an object, or None."""
    if value is not None and not OBJECT.fullmatch(value):
        _fail(attribute, f"{value!r} is no name of Kubernetes': lower-case letters, digits, '-' and '.'")


def resources(_: object, attribute: attrs.Attribute[Any], value: Mapping[str, Any] | None) -> None:
    """{limits, requests}, each from a resource's name to a quantity."""
    _keys(attribute, value or {}, ("limits", "requests", "claims"))
    for part in ("limits", "requests"):
        amounts = (value or {}).get(part) or {}
        if not isinstance(amounts, Mapping):
            _fail(attribute, f"{part}: expected a mapping like {{cpu: 100m}}, got {amounts!r}")
        for name, amount in amounts.items():
            if not _qualified(str(name)):
                _fail(attribute, f"{part}: {name!r} is no name of a resource, like cpu or memory")
            if isinstance(amount, bool) or not QUANTITY.fullmatch(str(amount)):
                _fail(attribute, f"{part}.{name}: {amount!r} is no quantity like 100m, 1.5 or 200Mi")


def tolerations(_: object, attribute: attrs.Attribute[Any], value: list[dict[str, Any]] | None) -> None:
    """Tolerations as a pod has them."""
    for number, each in enumerate(value or ()):
        where = f"[{number}]: "
        _keys(attribute, each, ("key", "operator", "value", "effect", "tolerationSeconds"), where)
        _words(attribute, each, "operator", OPERATORS, where)
        _words(attribute, each, "effect", EFFECTS, where)
        if not each.get("key") and each.get("operator") != "Exists":
            _fail(attribute, f"{where}without a key, operator must be Exists")
        if type(each.get("tolerationSeconds", 0)) is not int:
            _fail(attribute, f"{where}tolerationSeconds: expected a whole number")


def secrets(_: object, attribute: attrs.Attribute[Any], value: list[dict[str, str]]) -> None:
    """[{name: SECRET}]."""
    for number, each in enumerate(value):
        _keys(attribute, each, ("name",), f"[{number}]: ")
        if not OBJECT.fullmatch(each.get("name", "")):
            _fail(attribute, f"[{number}]: needs the name of a Secret")


def security_context(_: object, attribute: attrs.Attribute[Any], value: Mapping[str, Any] | None) -> None:
    """{seccomp_profile, app_armor_profile}, each {type, localhost_profile}."""
    known = ("seccomp_profile", "app_armor_profile")
    _keys(attribute, value or {}, known)
    for name in known:
        profile = (value or {}).get(name)
        if profile is None:
            continue
        if not isinstance(profile, Mapping) or not profile.get("type"):
            _fail(attribute, f"{name}: needs a type: {', '.join(PROFILES)}")
        _keys(attribute, profile, ("type", "localhost_profile"), f"{name}: ")
        _words(attribute, profile, "type", PROFILES, f"{name}.")


def log_level(_: object, attribute: attrs.Attribute[Any], value: str) -> None:
    """A level, or a filter of `NAME=LEVEL` as mirrord takes it."""
    for term in value.lower().split(","):
        if term.rpartition("=")[2].strip() not in LEVELS:
            _fail(attribute, f"{value!r} is not one of error, warn, info, debug, trace")
