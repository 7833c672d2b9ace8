"""What waits to leave behind all control: a lane for each stream, which take turns frame by frame."""

from __future__ import annotations

from collections import deque

from attrs import define, field

from pymirror.core.wire import Frame

CHUNK = 128 << 10
"""Bytes of a stream in one frame at most."""
LANE_ROOM = 4 * CHUNK
"""Bytes of one stream that wait to leave; its writer waits beyond."""
TIGHT_ROOM = 8 << 10
"""The same while much waits: what waits of a thousand streams is then little more."""


@define
class _Lane:
    frames: deque[Frame] = field(factory=deque)
    size: int = 0


@define
class Lanes:
    _lanes: dict[int, _Lane] = field(factory=dict, init=False)  # the next one to leave first

    def __bool__(self) -> bool:
        return bool(self._lanes)

    def waiting(self, name: int) -> int:
        """Bytes that wait in one lane."""
        lane = self._lanes.get(name)
        return lane.size if lane else 0

    def room(self, name: int, tight: bool) -> int:
        """Bytes that may still be put into one lane."""
        return max(0, (TIGHT_ROOM if tight else LANE_ROOM) - self.waiting(name))

    def put(self, name: int, frame: Frame) -> None:
        lane = self._lanes.get(name)
        if lane is None:
            lane = self._lanes[name] = _Lane()
        lane.frames.append(frame)
        lane.size += frame.weight

    def take(self) -> Frame:
        """The next frame; its lane is then behind the others."""
        name = next(iter(self._lanes))
        lane = self._lanes.pop(name)
        frame = lane.frames.popleft()
        lane.size -= frame.weight
        if lane.frames:
            self._lanes[name] = lane
        return frame

    def drop(self, name: int) -> deque[Frame]:
        """Take a whole lane away: what was in it."""
        lane = self._lanes.pop(name, None)
        return lane.frames if lane else deque()
