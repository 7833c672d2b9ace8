"""Tags of messages: unique, found again, refused where there is none."""

from __future__ import annotations

import attrs
import pytest

from pymirror.core.message import class_of, feature_of, message, tag_of


def test_a_message_is_frozen_and_found_by_its_tag() -> None:
    @message("network.tagged")
    class Fact:
        word: str

    assert tag_of(Fact) == "network.tagged/Fact"
    assert class_of("network.tagged/Fact") is Fact
    assert feature_of("network.tagged/Fact") == "network.tagged"
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        Fact("a").word = "b"  # type: ignore[call-arg]


def test_a_tag_belongs_to_one_class() -> None:
    first = type("Same", (), {"__module__": "one"})
    message("tagged")(first)
    with pytest.raises(TypeError, match="defined in one and again in two"):
        message("tagged")(type("Same", (), {"__module__": "two"}))


def test_what_is_no_message_is_refused() -> None:
    with pytest.raises(TypeError, match="int is not a message"):
        tag_of(int)
    assert class_of("tagged/Nothing") is None
