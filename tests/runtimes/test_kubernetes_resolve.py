"""What is looked up for a target, against an API server made of a dictionary."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from pymirror.core.errors import PymirrorError, UserError
from pymirror.runtimes.kubernetes.api import Json
from pymirror.runtimes.kubernetes.refusals import Forbidden, NotFound
from pymirror.runtimes.kubernetes.resolve import has_account, resolve, there_is
from pymirror.runtimes.kubernetes.resources import ACCOUNTS, NAMESPACES, PODS, Place
from pymirror.runtimes.kubernetes.target import Wanted


class Server:
    """Objects by path; paths may hold an error instead."""

    connection = SimpleNamespace(context="ctx")

    def __init__(self, objects: dict[str, Json | PymirrorError]) -> None:
        self.objects = objects

    async def get(self, place: Place) -> Json:
        found = self.objects.get(place.path, NotFound(f"{place} was not found"))
        if isinstance(found, PymirrorError):
            raise found
        return found

    async def items(self, place: Place, **selectors: str) -> list[Json]:
        return [found for path, found in self.objects.items() if path.startswith(f"{place.path}/")]  # type: ignore[misc]


SHOP: dict[str, Json | PymirrorError] = {NAMESPACES.at(name="shop").path: {"metadata": {"name": "shop"}}}


def named(name: str, **labels: str) -> Json:
    return {"metadata": {"name": name, "labels": labels}, "spec": {}, "status": {}}


async def told(server: Server, target: Wanted, namespace: str = "shop") -> str:
    api: Any = server
    with pytest.raises(UserError) as caught:
        await resolve(api, target, namespace)
    return str(caught.value)


async def test_an_agent_is_never_suggested() -> None:
    agent = named("pymirror-agent-x", app="pymirror")
    pods = {PODS.at("shop", name).path: thing for name, thing in (("web", named("web")), ("agent", agent))}
    said = await told(Server({**SHOP, **pods}), Wanted("pod", "wbe"))
    assert "did you mean web?" in said
    assert "pymirror-agent" not in said


async def test_an_agent_is_never_selected() -> None:
    agent = {PODS.at("shop", "agent").path: named("agent", app="pymirror")}
    assert "has no pods" in await told(Server({**SHOP, **agent}), Wanted("label", "app=pymirror"))


@pytest.mark.parametrize("target", [Wanted("pod", "web"), Wanted("label", "app=web")])
async def test_a_namespace_that_is_not_there_is_named(target: Wanted) -> None:
    said = await told(Server(SHOP), target, "shpo")
    assert "there is no namespace shpo (context ctx)" in said


async def test_a_namespace_that_may_not_be_asked_for_is_let_be() -> None:
    api: Any = Server({NAMESPACES.at(name="shop").path: Forbidden("no")})
    await there_is(api, "shop")


async def test_a_service_account_that_is_not_there_is_named_by_its_key() -> None:
    api: Any = Server({ACCOUNTS.at("shop", "agent").path: named("agent")})
    await has_account(api, "shop", "agent")
    with pytest.raises(
        UserError, match=r"agent\.service_account: namespace shop has no service account nope"
    ):
        await has_account(api, "shop", "nope")


async def test_a_service_account_that_may_not_be_asked_for_is_let_be() -> None:
    api: Any = Server({ACCOUNTS.at("shop", "nope").path: Forbidden("you may not")})
    await has_account(api, "shop", "nope")
