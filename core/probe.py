"""A fact about the target that a runtime tells features: what asks its ports whether it is well. Pure."""

from __future__ import annotations

from attrs import frozen

HTTP, GRPC, TCP = "http", "grpc", "tcp"
STARTUP, LIVENESS, READINESS = "startup", "liveness", "readiness"


@frozen
class Probe:
    """Who asks ends the target where a startup or liveness probe fails, and sends it no clients where
    readiness does. All of it comes from the target's definition and may be anything.

    kind: STARTUP, LIVENESS, READINESS. form: HTTP (GET), GRPC (its health protocol), or TCP. port: in the
    target's network. path: of HTTP, with its query. agent: how the User-Agent of HTTP and GRPC begins; empty:
    there is none. secure: over TLS. container: whose it is.
    """

    kind: str
    form: str
    port: int
    path: str = ""
    agent: str = ""
    secure: bool = False
    container: str = ""
