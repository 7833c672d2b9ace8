"""Messages: frozen attrs classes with a tag, the only things that cross the channel.

The tag is `feature/ClassName`. One global, filled by the decorator and refusing duplicates.
Fields are plain values, other attrs classes, lists, dicts with str keys, or `bytes`.
Top-level `bytes` fields travel as frames of their own, uncopied (see wire.py).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

import attrs

if TYPE_CHECKING:
    from typing_extensions import dataclass_transform
else:

    def dataclass_transform(**_: object) -> Callable[[object], object]:
        return lambda decorated: decorated


T = TypeVar("T", bound=type)

TAG = "__pymirror_tag__"
_by_tag: dict[str, type] = {}


@dataclass_transform(frozen_default=True, field_specifiers=(attrs.field,))
def message(feature: str) -> Callable[[T], T]:
    """Make the decorated class a message of `feature`: frozen, slotted, tagged.

    Raises TypeError when the feature already has a message of that name from another class.
    """

    def decorate(cls: T) -> T:
        made = attrs.frozen(cls)
        tag = f"{feature}/{cls.__name__}"
        known = _by_tag.get(tag)
        if known is not None and (known.__module__, known.__qualname__) != (
            made.__module__,
            made.__qualname__,
        ):
            raise TypeError(f"message {tag} is defined in {known.__module__} and again in {made.__module__}")
        setattr(made, TAG, tag)
        _by_tag[tag] = made
        return made

    return decorate


def tag_of(cls: type) -> str:
    """The tag of a message class; TypeError if it is not one."""
    tag = cls.__dict__.get(TAG)
    if not isinstance(tag, str):
        raise TypeError(f"{cls.__name__} is not a message: decorate it with @message(feature)")
    return tag


def class_of(tag: str) -> type | None:
    """The message class of a tag, or None if this side does not know it."""
    return _by_tag.get(tag)


def feature_of(tag: str) -> str:
    """The feature a tag belongs to."""
    return tag.rpartition("/")[0]
