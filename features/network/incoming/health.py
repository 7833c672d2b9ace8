"""The target's probes on ports that are taken: which requests they are, and what the user is told. Pure.

A probe is known by its path, method and User-Agent together, as others may ask for the same path. What is
taken by a filter is otherwise the filter's to decide; without one all else is the program's.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from functools import lru_cache
from typing import NoReturn
from urllib.parse import unquote

from pymirror.core.patterns import TooSlow
from pymirror.core.probe import GRPC, HTTP, READINESS, TCP, Probe
from pymirror.features.network.incoming.config import ANSWER, PASS, PROGRAM, WARN, Config
from pymirror.features.network.incoming.http_filter import HttpFilter, Matcher
from pymirror.features.network.incoming.http_rules import Asking, Deciding, Decision, Headers, path_of
from pymirror.features.network.incoming.questions import Question

CHECK, WATCH = b"/grpc.health.v1.Health/Check", b"/grpc.health.v1.Health/Watch"
KNOWN, LONGEST = 256, 4096
"""Targets of requests whose answer is remembered, and bytes of one; to compare takes microseconds."""
SHOWN = 80
"""Characters of a word of the cluster's."""
KEY = "feature.network.incoming.probes"
_PROBE, _OTHER = Decision(False, "a probe of the target"), Decision(True, "no probe of the target")


class Probed:
    """Decides on one port: its probes are not the program's; of all else the filter says, or it is.

    http, grpc: are there such? What there is none of need not be cut into requests.
    """

    def __init__(self, probes: Sequence[Probe], matcher: Deciding | None = None) -> None:
        plain = [each for each in probes if not each.secure]
        self._paths = {(unquote(each.path), each.agent) for each in plain if each.form == HTTP}
        self._agents = {each.agent for each in plain if each.form == GRPC}
        self.http, self.grpc = bool(self._paths), bool(self._agents)
        self._known = lru_cache(KNOWN)(self._asked_by)
        self._matcher = matcher

    @property
    def needs_body(self) -> bool:
        return self._matcher is not None and self._matcher.needs_body

    def decide(
        self, method: bytes, target: bytes, headers: Headers, body: bytes | None = None
    ) -> Decision | None:
        if self._is_probe(method, target, headers):
            return _PROBE
        return _OTHER if self._matcher is None else self._matcher.decide(method, target, headers, body)

    def soon(
        self, method: bytes, target: bytes, headers: Headers, body: bytes | None, again: Callable[[], object]
    ) -> Decision | Asking | None:
        if self._is_probe(method, target, headers):
            return _PROBE
        if self._matcher is None:
            return _OTHER
        return self._matcher.soon(method, target, headers, body, again)

    def _is_probe(self, method: bytes, target: bytes, headers: Headers) -> bool:
        agents: Collection[str] = ()
        if method == b"GET" and self.http:
            agents = self._known(target) if len(target) <= LONGEST else self._asked_by(target)
        elif method == b"POST" and target in (CHECK, WATCH):
            agents = self._agents
        if not agents:
            return False
        said = _agent(headers)
        return any(_is_agent(said, agent) for agent in agents)

    def _asked_by(self, target: bytes) -> tuple[str, ...]:
        """The User-Agents of the probes with that path, however it is spelled."""
        path = unquote(path_of(target))
        return tuple(agent for each, agent in self._paths if each == path)


def _agent(headers: Headers) -> str:
    return next((value.decode("latin-1") for name, value in headers if name.lower() == b"user-agent"), "")


def _is_agent(said: str, agent: str) -> bool:
    return said.startswith(agent) if agent else not said


def on_port(probes: Sequence[Probe], port: int) -> list[Probe]:
    return [each for each in probes if each.port == port]


# What the user is told ----------------------------------------------------------------------------


def warning(config: Config, port: int, probes: Sequence[Probe]) -> str:
    """About a port that was stolen just now; empty: its probes get what was chosen for them."""
    here = on_port(probes, port)
    if config.mode != "steal" or not here:
        return ""
    if config.http_filter.concerns(port):
        caught = (
            [each for each in here if _matches(config.http_filter, each)] if config.probes == WARN else []
        )
        words = f"port {port}: the filter takes {_list(caught)}"
        return f"{words}; {_advice(caught, (PASS, PROGRAM))}" if caught else ""
    if config.probes == WARN:
        return f"port {port} is stolen whole, {_list(here)} included; {_advice(here)}"
    hidden = [each for each in here if each.secure] if config.probes in (PASS, ANSWER) else []
    return f"port {port}: {_list(hidden)} cannot be told apart; {_advice(hidden)}" if hidden else ""


def _list(probes: Sequence[Probe]) -> str:
    return "the target's probes " + ", ".join(dict.fromkeys(map(_words, probes)))


def _words(probe: Probe) -> str:
    how = {
        HTTP: f"HTTP{'S' if probe.secure else ''} GET {_shown(probe.path)}",
        GRPC: "gRPC health check",
        TCP: "TCP connect",
    }
    return f"{probe.kind} ({how[probe.form]}, container {_shown(probe.container)})"


def _shown(text: str) -> str:
    """A terminal takes orders in bytes that are no letters."""
    short = text if len(text) <= SHOWN else text[:SHOWN] + "…"
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in short)


_CHOICES = {
    ANSWER: f'"{ANSWER}" (the agent answers them)',
    PASS: f'"{PASS}" (the application does)',
    PROGRAM: f'"{PROGRAM}" (your program does, without this warning)',
}


def _advice(probes: Sequence[Probe], choices: Sequence[str] = tuple(_CHOICES)) -> str:
    """What may come of it, and what to do."""
    told = []
    asking = [each for each in probes if each.form != TCP]
    if asking:
        ends = any(each.kind != READINESS for each in asking)
        fate = "is restarted" if ends else "gets no more clients"
        told.append(f"while your program does not answer them (at a breakpoint) the target {fate}")
    if len(asking) < len(probes):
        told.append("one over TCP succeeds in any case, and your program sees a connection without a word")
    if any(not each.secure for each in asking):
        told.append(f"set {KEY} to {' or '.join(_CHOICES[each] for each in choices)}")
    if any(each.secure for each in asking):
        told.append(
            "those over HTTPS cannot be told from other requests without agent.tls: "
            "leave the port out (ports, ignore_ports), or probe another port or without TLS"
        )
    return "; ".join(told)


def _matches(config: HttpFilter, probe: Probe) -> bool:
    """Does the filter take it, as far as that is plain? Of TLS and TCP it takes nothing."""
    if probe.secure or probe.form == TCP:
        return False
    agent = [(b"user-agent", f"{probe.agent}1".encode())] if probe.agent else []
    matcher = Matcher(config, lambda questions: _Nobody(questions))
    if probe.form == GRPC:
        asked = matcher.decide(b"POST", CHECK, [*agent, (b"content-type", b"application/grpc")], b"")
    else:
        asked = matcher.decide(b"GET", probe.path.encode(), [*agent, (b"accept", b"*/*")], b"")
    return asked is not None and asked.matches


class _Nobody:
    """Answers no question of jq or JSONPath: then it is not plain."""

    def __init__(self, questions: Sequence[Question]) -> None:
        self._questions = questions

    def ask(self, number: int, texts: list[bytes]) -> NoReturn:
        raise TooSlow("", self._questions[number].query, 0.0)

    async def answer(self, number: int, texts: list[bytes]) -> NoReturn:
        self.ask(number, texts)
