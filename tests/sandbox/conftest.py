"""What the tests of a file have in common."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import pytest_asyncio

from tests.sandbox.pod_network import pod
from tests.sandbox.written_place import Place, target


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def there() -> Any:
    """A pod with a network and servers of its own (pod_network.py), one for a file."""
    async with pod() as made:
        yield made


@pytest.fixture
def place() -> Iterator[Place]:
    """A target that may change all of a folder."""
    with target() as made:
        yield made
