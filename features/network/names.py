"""Which names an address was given out for: written by who resolves, read by who filters. Pure."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence

MOST = 10_000
"""Addresses remembered; the one not heard of for longest goes first."""
MOST_NAMES = 16
"""Names of one address: enough for virtual hosts behind one load balancer, and a bound."""


class Names:
    """One for a session: `launch.shared(Names)`."""

    def __init__(self) -> None:
        self._names: OrderedDict[str, OrderedDict[str, None]] = OrderedDict()
        self._there: OrderedDict[str, str] = OrderedDict()

    def learned(self, name: str, addresses: list[str]) -> None:
        """`name` was answered with these numeric addresses. Case and a final dot do not count."""
        for address in addresses:
            names = self._names.setdefault(address, OrderedDict())
            self._names.move_to_end(address)
            names[canonical(name)] = None
            names.move_to_end(canonical(name))
            while len(names) > MOST_NAMES:
                names.popitem(last=False)
        while len(self._names) > MOST:
            self._names.popitem(last=False)

    def answered(self, name: str, addresses: list[str], here: bool) -> None:
        """These are what this machine takes the whole name `name` for, or the target does."""
        for address in addresses:
            self._there.pop(address, None)
            if not here:
                self._there[address] = canonical(name)
        while len(self._there) > MOST:
            self._there.popitem(last=False)

    def there(self, address: str) -> str:
        """The whole name that the target takes `address` for, the latest; empty: none."""
        return self._there.get(address, "")

    def of(self, address: str) -> tuple[str, ...]:
        """The names `address` was given out for, the latest last."""
        return tuple(self._names.get(address, ()))


class OutgoingFilter:
    """The outgoing filter's entries, for who resolves names: `launch.shared(OutgoingFilter)`.

    Which of the two halves starts first has no meaning.
    """

    def __init__(self) -> None:
        self._told: tuple[Sequence[str], bool] | None = None
        self._heard: Callable[[Sequence[str], bool], None] | None = None

    def tell(self, entries: Sequence[str], here: bool) -> None:
        """here: what the entries match goes out from this machine, and all else from the target."""
        self._told = (entries, here)
        if self._heard is not None:
            self._heard(entries, here)

    def listen(self, heard: Callable[[Sequence[str], bool], None]) -> None:
        """Call `heard(entries, here)` when that is known, at once if it is."""
        self._heard = heard
        if self._told is not None:
            heard(*self._told)


class Lookup:
    """How the program's resolvers find a name's addresses: `launch.shared(Lookup)`.

    ask: set by who answers the program's resolvers; None: they ask this machine's name servers.
    """

    ask: Callable[[str], Awaitable[frozenset[str]]] | None = None


def canonical(name: str) -> str:
    """The form names are compared in."""
    return name.rstrip(".").lower()
