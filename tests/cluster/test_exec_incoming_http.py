"""Requests that a filter takes come to the program here; every other is answered as without pymirror, byte for byte.

The application answers with all bytes that its connection has brought, and its log says who the client was.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.incoming import Local, Scene, scene

pytestmark = pytest.mark.cluster

PORT, OTHER = 8080, 8081
NAME = "own"
"""The program's; as long as the application's, which answers with bodies as long."""
BODY = {"body": "json", "query": "$.who", "matches": "^me$"}
ME, YOU = '{"who": "me"}', '{"who": "you"}'


def raw(first: str, *headers: str, body: str = "") -> bytes:
    """As no library would write it: what is changed on the way is seen."""
    length = [f"content-LENGTH:{len(body)}"] if body else []
    lines = [f"{first} HTTP/1.1", "HOST:  web", *headers, *length, "connection: close", "", body]
    return "\r\n".join(lines).encode()


WHO = "X-WHO:   Me"
PLAIN = raw("GET /bytes")
FILTERS: dict[str, tuple[dict[str, Any], bytes, bytes]] = {
    "header": ({"header_filter": "^x-who: +me$"}, raw("GET /bytes", WHO), raw("GET /bytes", "X-Who: you")),
    "path": ({"path_filter": "^/mine"}, raw("GET /mine"), PLAIN),
    "query": ({"path_filter": "who=me"}, raw("GET /mine?who=me"), raw("GET /bytes?who=you")),
    "method": ({"method_filter": "patch"}, raw("PATCH /bytes"), raw("PUT /bytes")),
    "jq": ({"header_filter_jq": 'test("x-who: *me"; "i")'}, raw("GET /bytes", WHO), PLAIN),
    "body": ({"body_filter": BODY}, raw("POST /bytes", body=ME), raw("POST /bytes", body=YOU)),
    "all_of": (
        {"all_of": [{"header": "x-who: +me"}, {"path": "^/bytes"}, BODY]},
        raw("POST /bytes", WHO, body=ME),
        raw("POST /bytes", WHO, body=YOU),
    ),
    "any_of": (
        {"any_of": [{"header": "x-who: +me"}, {"method": "PUT"}]},
        raw("PUT /bytes"),
        raw("POST /bytes", body=ME),
    ),
    "not": ({"all_of": [{"not": {"path": "^/bytes"}}]}, raw("GET /mine"), PLAIN),
    "nested": (
        {"any_of": [{"all_of": [{"path": "^/bytes"}, {"not": {"method": "GET"}}]}, {"header": "x-who: +me"}]},
        raw("PUT /bytes"),
        PLAIN,
    ),
}


@pytest.fixture(scope="module")
def there(cluster: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with scene(cluster, "incoming-http", tmp_path_factory.mktemp("http")) as made:
        yield made


def filtered(there: Scene, folder: Path, mode: str = "steal", **keys: Any) -> Local:
    incoming = {"mode": mode, "http_filter": keys}
    local = Local(there, folder, there.server, NAME, str(PORT), str(OTHER), incoming=incoming)
    local.says("listens on", times=2)
    return local


@pytest.mark.parametrize("kind", FILTERS)
def test_what_matches_is_the_programs_and_all_else_the_applications(
    there: Scene, tmp_path: Path, kind: str
) -> None:
    keys, mine, others = FILTERS[kind]
    without = [there.ask("raw", there.at(PORT), given=each) for each in (mine, others)]
    assert all("\nServer: app\r\n" in answer for answer in without)
    with filtered(there, tmp_path, **keys):
        seen = len(there.log())
        assert there.ask("raw", there.at(PORT), given=others) == without[1]
        assert there.ask("raw", there.at(PORT), given=mine) == without[0].replace("app", NAME)
        assert there.ask("get", "/", there.at(PORT + 2)).startswith("app GET")
        logged = [each for each in there.log()[seen:] if " from " in each]
    assert all(each.split(" from ")[1].startswith(there.client) for each in logged)


def test_successive_requests_of_one_connection_are_decided_alone(there: Scene, tmp_path: Path) -> None:
    """Also those that are written before the answer to the one before has come."""
    requests = b"".join(
        f"GET /{number} HTTP/1.1\r\nHost: web\r\nX-Who: {who}\r\n\r\n".encode()
        for number, who in enumerate(["you", "me", "me", "you", "me", "you"])
    )
    with filtered(there, tmp_path, header_filter="x-who: me"):
        answers = there.ask("raw", there.at(PORT), given=requests + PLAIN)
    lines = [line.split(" from ")[0] for line in answers.splitlines() if " GET /" in line]
    assert lines == ["app GET /0", "own GET /1", "own GET /2", "app GET /3", "own GET /4", "app GET /5"]


TWO = ("HTTP/2", "BODY", "unary", "streaming")


@pytest.fixture(scope="module")
def manners(there: Scene, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """What a client is told: without pymirror, with a filter that its requests do not match, and that they do."""
    without = there.ask("manners", there.at(PORT))
    with filtered(there, tmp_path_factory.mktemp("manners"), header_filter="^x-who: me$"):
        others = there.ask("manners", there.at(PORT), "X-Who: you")
        mine = there.ask("manners", there.at(PORT), "X-Who: me")
    said = {"without": without, "others": others, "mine": mine}
    return {name: each.splitlines() for name, each in said.items()}


def of(lines: list[str], two: bool) -> list[str]:
    """Those of HTTP/2, or those of HTTP/1, with WebSocket."""
    return [each for each in lines if each.startswith(TWO) == two]


def test_in_all_manners_of_http_the_applications_stay_so(manners: dict[str, list[str]]) -> None:
    assert manners["others"] == manners["without"]


@pytest.mark.parametrize(
    "two",
    [
        pytest.param(False, id="HTTP/1"),
        pytest.param(True, id="HTTP/2"),
    ],
)
def test_in_all_manners_of_http_the_programs_are_so(manners: dict[str, list[str]], two: bool) -> None:
    wanted = [each.replace("app ", f"{NAME} ") for each in of(manners["without"], two)]
    assert len(wanted) > 5 and of(manners["mine"], two) == wanted


def test_a_filter_of_some_ports_leaves_the_others_whole(there: Scene, tmp_path: Path) -> None:
    with filtered(there, tmp_path, path_filter="^/mine", ports=[PORT]):
        answers = there.ask("get", "/", there.at(PORT), there.at(OTHER)).splitlines()
        assert [answer.split()[0] for answer in answers] == ["app", NAME]


def test_a_mirror_has_a_filter_too(there: Scene, tmp_path: Path) -> None:
    with filtered(there, tmp_path, "mirror", path_filter="^/mine") as local:
        for path in ("/other", "/mine/1", "/other", "/mine/2"):
            assert there.ask("get", path, there.at(PORT)).startswith(f"app GET {path}")
        local.says("/mine/2")
        assert [each.split()[2] for each in local.said() if " from " in each] == ["/mine/1", "/mine/2"]


def test_clients_that_do_what_they_should_not(there: Scene, tmp_path: Path) -> None:
    """No HTTP, a header without an end, requests without one: the application's, and others are served."""
    garbage = b"\x00\xff\x16\x03\x01 is no HTTP\r\n\r\n"
    without = there.ask("raw", there.at(PORT), given=garbage)
    with filtered(there, tmp_path, header_filter="x-who: me"):
        before = there.memory()
        assert before
        with there.asking("slow", there.at(PORT), "1000"):
            assert there.ask("huge", there.at(PORT), "1024").startswith("ended")
            assert there.ask("raw", there.at(PORT), given=garbage) == without
            assert there.ask("load", there.at(PORT), "10", "100") == "map[app:100]\n"
            mine = there.ask("raw", there.at(PORT), given=raw("GET /mine", "X-Who: me"))
            assert mine.endswith(f"{PORT}\n")
            assert there.memory() - before < 128 << 10


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "two filters": ({"header_filter": "a", "path_filter": "b"}, "all_of"),
    "a regular expression": ({"header_filter": "("}, "header_filter"),
    "a path into JSON": ({"body_filter": {**BODY, "query": "$.["}}, "JSONPath"),
    "jq": ({"header_filter_jq": "test("}, "header_filter_jq"),
    "nothing in all_of": ({"all_of": []}, "all_of"),
    "an unknown rule": ({"any_of": [{"cookie": "a"}]}, "cookie"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_bad_filter_has_no_effect(there: Scene, tmp_path: Path, name: str) -> None:
    keys, words = REFUSED[name]
    before = there.alone()
    incoming = {"mode": "steal", "http_filter": keys}
    with Local(there, tmp_path, "touch", "ran", incoming=incoming) as local:
        assert local.process.wait(40) != 0
    assert words in local.errors() and "Traceback" not in local.errors(), json.dumps(keys)
    assert not (tmp_path / "ran").exists()
    assert there.cluster.there(there.namespace) == before
