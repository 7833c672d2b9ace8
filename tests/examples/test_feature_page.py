"""The code on docs/writing-a-feature.md runs, step after step, and makes halves without faults."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from pymirror.core import AgentFeature, LayerFeature, registry

PAGE = Path(__file__).parents[2] / "docs" / "writing-a-feature.md"


def test_the_steps_run() -> None:
    names: dict[str, Any] = {"__name__": "page"}
    for block in re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL):
        exec(block, names)
    assert registry.faults("clock", names["Layer"], LayerFeature) == []
    assert registry.faults("clock", names["Agent"], AgentFeature) == []
