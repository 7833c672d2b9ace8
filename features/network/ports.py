"""Which ports of this machine the program's listeners really have: written by who binds them. Pure."""

from __future__ import annotations

from attrs import frozen

from pymirror.core.call import Address


@frozen
class Listener:
    """A socket on which the program listens, or is about to.

    asked: where it is to be, as the program sees it; real: where it is. shares: it has SO_REUSEPORT.
    target: the port of the target that it stands for. socket: its SO_COOKIE.
    """

    asked: Address
    real: Address
    shares: bool
    target: int
    socket: int


class Ports:
    """One for a session: `launch.shared(Ports)`."""

    def __init__(self) -> None:
        self._known: dict[int, Listener] = {}  # the latest last

    def add(self, listener: Listener) -> None:
        self._known.pop(listener.socket, None)
        self._known[listener.socket] = listener

    def remove(self, listener: Listener) -> None:
        """Unless its socket is another listener by now."""
        if self._known.get(listener.socket) == listener:
            del self._known[listener.socket]

    def all(self) -> list[Listener]:
        return list(self._known.values())

    def asked(self, port: int) -> list[Listener]:
        """Those that the program sees on that port."""
        return [each for each in self._known.values() if each.asked.port == port]

    def of(self, target: int) -> list[Listener]:
        """Those that stand for that port of the target, the latest first."""
        return [each for each in reversed(self._known.values()) if each.target == target]

    def others(self, port: int) -> list[int]:
        """Other ports on which something listens that the program sees on that one."""
        return sorted({each.real.port for each in self.asked(port)} - {port})
