"""The test cluster carries what the other tests of this tier stand on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]


def test_pod_runs_and_answers(cluster: Any, namespace: str, make_pod: Callable[..., None]) -> None:
    make_pod("web", env=[{"name": "GREETING", "value": "hello"}])
    assert cluster.exec(namespace, "web", "sh", "-c", "echo $GREETING") == "hello\n"


def test_agent_image_has_what_the_agent_imports(
    cluster: Any, namespace: str, make_pod: Callable[..., None]
) -> None:
    wait = ["/usr/bin/python3", "-c", "import signal; signal.pause()"]
    make_pod("agent", image="localhost/pymirror-agent:0.1.0", command=wait)
    asked = "import pymirror.agent.main, zmq, msgspec, attrs, stevedore; print('imported')"
    assert cluster.exec(namespace, "agent", "/usr/bin/python3", "-c", asked) == "imported\n"
