"""A session without a program, whose traffic is printed: what was asked for, and where it goes.

The layer makes it ready before the session begins; a half that prints finds it by `Launch.shared`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from attrs import define, field, frozen

FORMS = ("text", "hex", "http")


@frozen
class Order:
    """ports: the target's; none: those that it declares. form: one of FORMS. most: after so many it is enough
    (requests where these are printed, else connections); 0: no limit. seconds: the same; None: no limit."""

    ports: tuple[int, ...] = ()
    form: str = FORMS[0]
    most: int = 0
    seconds: float | None = None


class Output(Protocol):
    """Where lines go: held until they are taken, so who writes asks first."""

    freed: Callable[[], object]
    """Called when there is room again after `full` was true."""

    @property
    def full(self) -> bool:
        """Is nothing more to be written for the moment?"""

    def write(self, data: bytes) -> None: ...


class Nowhere:
    """For who only looks."""

    freed: Callable[[], object]
    full = False

    def write(self, data: bytes) -> None: ...


@define(eq=False)
class Dumping:
    """enough(): call it when `order.most` were printed. words(): what was printed, for the end."""

    order: Order = Order()
    out: Output = field(factory=Nowhere)
    enough: Callable[[], object] = lambda: None
    words: Callable[[], str] = lambda: ""
