"""What the tests of the configuration have installed: pymirror's own features and a third party's."""

from __future__ import annotations

from attrs import frozen

from pymirror.cli.common import vocabulary_of
from pymirror.core.config import key, one_of, positive
from pymirror.features.env.config import Config as Env
from pymirror.features.fs.config import Config as Fs
from pymirror.features.hostname.config import Config as Hostname
from pymirror.features.network.incoming.config import Config as Incoming
from pymirror.runtimes.kubernetes.config import Config as Kubernetes
from pymirror.runtimes.process.config import Config as Process


@frozen
class Clock:
    zone: str | None = key(None, env="CLOCK_ZONE")
    speed: float = key(1.0, validator=positive)
    style: str = key("long", validator=one_of("long", "short"), env="CLOCK_STYLE")


VOCABULARY = vocabulary_of(
    {"env": Env, "hostname": Hostname, "fs": Fs, "network.incoming": Incoming, "clock": Clock},
    {"kubernetes": Kubernetes, "process": Process},
)
