"""psycopg: rows in and out, an error, a notification, a query that is cancelled: rows.py NAME."""

from __future__ import annotations

import asyncio
import sys
import threading

import psycopg

where = f"host={sys.argv[1]} user=app password=secret dbname=postgres"
with psycopg.connect(where, autocommit=True) as listens, psycopg.connect(where) as writes:
    listens.execute("LISTEN done")
    writes.execute("CREATE TABLE numbers (value int PRIMARY KEY)")
    with writes.cursor() as cursor, cursor.copy("COPY numbers FROM STDIN") as copy:
        for number in range(1000):
            copy.write_row((number,))
    writes.execute("NOTIFY done, 'all of them'")
    writes.commit()
    print(next(listens.notifies(timeout=30, stop_after=1)).payload)
    print(listens.execute("SELECT count(*), sum(value) FROM numbers").fetchone())
    try:
        writes.execute("INSERT INTO numbers VALUES (7)")
    except psycopg.errors.UniqueViolation as error:
        print(error.diag.constraint_name)


ASLEEP = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query = 'SELECT pg_sleep(60)'"


def cancel(sleeping: psycopg.Connection) -> None:
    """Once the server has its query. To cancel is a connection of its own, to where the first one went."""
    with psycopg.connect(where, autocommit=True) as other:
        while other.execute(ASLEEP).fetchone() != (1,):
            pass
    sleeping.cancel_safe()


with psycopg.connect(where) as sleeping:
    threading.Thread(target=cancel, args=(sleeping,)).start()
    try:
        sleeping.execute("SELECT pg_sleep(60)")
    except psycopg.errors.QueryCanceled:
        print("cancelled")


async def waits() -> None:
    async with await psycopg.AsyncConnection.connect(where) as connection:
        found = await connection.execute("SELECT inet_server_port(), length(repeat('x', 1000000))")
        print(await found.fetchone())


asyncio.run(waits())
try:
    psycopg.connect(where.replace("secret", "wrong"))
except psycopg.OperationalError as error:
    print("password authentication failed" in str(error))
