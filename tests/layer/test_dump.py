"""A session without a program: the ports that are looked at."""

from __future__ import annotations

import pytest

from pymirror.core.dumping import Dumping, Order
from pymirror.core.errors import UserError
from pymirror.core.session import Found
from pymirror.layer.dump import _settle


@pytest.mark.parametrize(
    ("asked", "declared", "ports"), [((), (80, 81), (80, 81)), ((9,), (80,), (9,)), ((9,), (), (9,))]
)
def test_ports_are_those_named_or_those_declared(
    asked: tuple[int, ...], declared: tuple[int, ...], ports: tuple[int, ...]
) -> None:
    dumping = Dumping(Order(asked))
    _settle(dumping, Found("pod/x", ports=declared))
    assert dumping.order.ports == ports


def test_none_at_all_is_refused() -> None:
    with pytest.raises(UserError, match="pod/x declares no port of its own") as caught:
        _settle(Dumping(), Found("pod/x"))
    assert "-p 8080" in caught.value.hint
