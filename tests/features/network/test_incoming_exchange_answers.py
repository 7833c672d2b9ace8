"""Answers that come early, or that are no HTTP: what follows on that connection, and whose it is."""

from __future__ import annotations

import asyncio

import pytest
from incoming_asking import Asks, Question
from incoming_scene import Made, Scene, got, ok, quiet, reset, send

from pymirror.core.limit import timeout
from pymirror.features.network.incoming.limits import Limits

pytestmark = pytest.mark.asyncio

A, P = b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n", b"GET /p HTTP/1.1\r\nHost: x\r\n\r\n"
EARLY = b"HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n"


@pytest.mark.parametrize("taken", [True, False])
async def test_what_is_left_of_a_body_stays_with_its_request(made: Made, taken: bool) -> None:
    """The answer came before; the body looks like a request, and the next one comes in the same bytes."""
    scene = made()
    mine, other = (scene.program, scene.application) if taken else (scene.application, scene.program)
    path, next_path = (b"/p", b"/a") if taken else (b"/a", b"/p")
    body, follows = b"GET /p HTTP/1.1\r\n\r\n", b"GET %s HTTP/1.1\r\n\r\n" % next_path
    head = b"POST %s HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % (path, len(body))
    await send(scene.client, head)
    first = await mine.next()
    await got(first, head)
    await send(first, EARLY)
    await got(scene.client, EARLY)
    await send(scene.client, body + follows)
    await got(first, body)
    second = await other.next()
    await got(second, follows)
    await quiet(first)
    await send(second, ok())
    await got(scene.client, ok())


NO_HTTP = {
    "two framings": b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    "twice a length": b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
    "a control byte": b"HTTP/1.1 200 OK\r\nX: a\x01b\r\nContent-Length: 5\r\n\r\nhello",
    "a long head": b"HTTP/1.1 200 OK\r\nX: %s\r\nContent-Length: 5\r\n\r\nhello" % (b"a" * 70_000),
}


@pytest.mark.parametrize("name", NO_HTTP)
async def test_an_application_that_answers_so_keeps_its_connection(made: Made, name: str) -> None:
    """More requests than may wait for answers; also those that a filter would take."""
    scene = made(limits=Limits(pipelined=3))
    await send(scene.client, A)
    application = await scene.application.next()
    await got(application, A)
    await send(application, NO_HTTP[name])
    await got(scene.client, NO_HTTP[name])
    for request in (A, P, A, P, A):
        await send(scene.client, request)
        await got(application, request)
        await send(application, NO_HTTP[name])
        await got(scene.client, NO_HTTP[name])
    assert len(scene.told) == 1 and scene.program.asked == 0


@pytest.mark.parametrize("before", [True, False])
async def test_a_program_that_answers_so_gets_nobody_elses_request(made: Made, before: bool) -> None:
    """before: the next one is there when the answer comes."""
    scene = made()
    await send(scene.client, P)
    program = await scene.program.next()
    await got(program, P)
    if before:
        await send(scene.client, A)
        await quiet(program)
    else:
        await send(program, NO_HTTP["twice a length"])
        await got(scene.client, NO_HTTP["twice a length"])
    await send(*((program, NO_HTTP["twice a length"]) if before else (scene.client, A)))
    assert await reset(program)
    assert scene.application.asked == 0 and len(scene.told) == 1


async def test_a_head_has_its_time_however_steadily_it_comes(made: Made) -> None:
    scene = made(limits=Limits(head=0.2))
    await send(scene.client, P[:-4])
    async with timeout(10):
        while not scene.application.asked:
            await send(scene.client, b"x")
            await asyncio.sleep(0.02)
    await got(await scene.application.next(), P[:-4] + b"x")
    assert len(scene.told) == 1


async def test_a_client_that_does_not_end_after_its_last_answer_is_ended(made: Made) -> None:
    scene = made(limits=Limits(linger=0.05))
    await send(scene.client, A)
    application = await scene.application.next()
    await got(application, A)
    await send(application, ok())
    await got(scene.client, ok())
    application.close()
    await got(scene.client, b"")
    async with timeout(10):
        await scene.over.wait()
    assert scene.exchange.closed


# The filter has to ask ---------------------------------------------------------------------------


async def asked(scene: Scene, matcher: Asks, count: int) -> Question:
    await matcher.reached(count)
    await quiet(scene.client)
    return await matcher.reached(count)


async def test_who_waits_for_the_filter_is_not_overtaken(made: Made) -> None:
    matcher = Asks()
    scene = made(matcher)
    await send(scene.client, P + A)
    first = await asked(scene, matcher, 1)
    assert (scene.application.asked, scene.program.asked) == (0, 0)
    first.answer(True)
    program = await scene.program.next()
    await got(program, P)
    await send(program, ok(b"one"))
    await got(scene.client, ok(b"one"))
    (await asked(scene, matcher, 2)).answer(False)
    await got(await scene.application.next(), A)


async def test_a_filter_that_asks_about_head_and_body(made: Made) -> None:
    matcher = Asks()
    scene = made(matcher)
    head, body = b"POST /x HTTP/1.1\r\nContent-Length: 10\r\n\r\n", b"0123456789"
    await send(scene.client, head + body[:4])
    first = await asked(scene, matcher, 1)
    await send(scene.client, body[4:] + A)
    await quiet(scene.client)
    assert first.body is None and len(matcher.asked) == 1
    first.answer(None)
    second = await asked(scene, matcher, 2)
    assert second.body == body
    second.answer(True)
    await got(await scene.program.next(), head + body)


async def test_of_who_is_gone_no_answer_is_wanted(made: Made) -> None:
    matcher = Asks()
    scene = made(matcher)
    await send(scene.client, P)
    question = await asked(scene, matcher, 1)
    scene.exchange.cancel()
    assert question.cancelled
    question.answer(True)
    assert (scene.application.asked, scene.program.asked) == (0, 0)
