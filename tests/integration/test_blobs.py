"""Blobs in a real folder and on a real S3 server: the same promises in both."""

from __future__ import annotations

import asyncio
import hashlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from backend.config import child_environment, load_settings
from backend.errors import ConfigurationError, NotFound, StorageError
from backend.storage.blobs import BlobStore, open_blobs
from tests.fixtures.buckets import BUCKET, ENVIRONMENT, s3_server

DATA = b"a picture" * 1000
KEY = hashlib.sha256(DATA).hexdigest()


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    with s3_server() as url:
        yield url


@pytest.fixture(params=["folder", "s3"])
def blobs(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> BlobStore:
    if request.param == "folder":
        return open_blobs(None, tmp_path / "blobs")
    for name, value in {**ENVIRONMENT, "AWS_ENDPOINT_URL": request.getfixturevalue("s3")}.items():
        monkeypatch.setenv(name, value)
    return open_blobs(f"s3://{BUCKET}/{tmp_path.name}", tmp_path)


async def keys(blobs: BlobStore) -> list[str]:
    return sorted([entry.sha256 async for entry in blobs.list()])


async def test_what_is_put_is_there_under_its_hash(blobs: BlobStore) -> None:
    assert await blobs.put(DATA) == KEY
    assert await blobs.get(KEY) == DATA
    assert await blobs.exists(KEY)
    assert await blobs.size(KEY) == len(DATA)
    assert await blobs.get_range(KEY, 2, 9) == DATA[2:9]
    assert await blobs.get_range(KEY, 5, 5) == b""
    assert await keys(blobs) == [KEY]
    assert await blobs.temporary() == ()


async def test_twenty_mebibytes_and_nothing_at_all(blobs: BlobStore) -> None:
    for data in (os.urandom(20 * 1024**2), b""):
        assert await blobs.get(await blobs.put(data)) == data


async def test_putting_again_keeps_one_and_counts_as_now(blobs: BlobStore) -> None:
    await blobs.put(DATA)
    (before,) = [entry async for entry in blobs.list()]
    await asyncio.sleep(1.1)
    await blobs.put(DATA)
    (after,) = [entry async for entry in blobs.list()]
    assert after.modified > before.modified


async def test_many_at_once(blobs: BlobStore) -> None:
    contents = [f"picture {n % 5}".encode() for n in range(20)]
    found = await asyncio.gather(*(blobs.put(data) for data in contents))
    assert len(set(found)) == 5
    assert len(await keys(blobs)) == 5


async def test_deleting_takes_what_was_made_of_it_along(blobs: BlobStore) -> None:
    await blobs.put(DATA)
    await blobs.put_derived(KEY, "256", b"small")
    assert await blobs.get_derived(KEY, "256") == b"small"
    assert await blobs.get_derived(KEY, "768") is None
    assert await keys(blobs) == [KEY]
    assert await blobs.derived() == {KEY}
    await blobs.delete(KEY)
    await blobs.delete(KEY)
    assert not await blobs.exists(KEY)
    assert await blobs.get_derived(KEY, "256") is None
    with pytest.raises(NotFound, match=KEY):
        await blobs.get(KEY)
    with pytest.raises(NotFound):
        await blobs.get_range(KEY, 0, 1)
    with pytest.raises(NotFound):
        await blobs.size(KEY)


async def test_what_is_made_is_made_once(blobs: BlobStore) -> None:
    await blobs.put_derived(KEY, "256", b"first")
    await blobs.put_derived(KEY, "256", b"second")
    assert await blobs.get_derived(KEY, "256") == b"first"


async def test_a_key_is_a_hash_and_nothing_else(blobs: BlobStore) -> None:
    for key in ("", "../../etc/passwd", "a" * 63, "A" * 64, f"{KEY}/..", f"{KEY}\n"):
        with pytest.raises(NotFound):
            await blobs.get(key)
        with pytest.raises(NotFound):
            await blobs.delete(key)


async def test_damage_is_found_set_aside_and_healed(blobs: BlobStore) -> None:
    await blobs.put(DATA)
    path = f"{KEY[:2]}/{KEY[2:]}"
    await blobs.place.replace(path, b"another picture")
    with pytest.raises(StorageError, match="damaged"):
        await blobs.get(KEY)
    assert not await blobs.is_whole(KEY)
    await blobs.quarantine(KEY)
    assert not await blobs.exists(KEY)
    await blobs.place.create(path, b"another picture")
    assert await blobs.put(DATA) == KEY
    assert await blobs.get(KEY) == DATA


async def test_only_what_is_old_goes(blobs: BlobStore) -> None:
    await blobs.put(DATA)
    hour = timedelta(hours=1)
    assert not await blobs.delete_older(KEY, datetime.now(UTC) - hour)
    assert await blobs.exists(KEY)
    assert await blobs.delete_older(KEY, datetime.now(UTC) + hour)
    assert not await blobs.delete_older(KEY, datetime.now(UTC) + hour)
    assert not await blobs.exists(KEY)


async def test_the_probe_leaves_nothing(blobs: BlobStore) -> None:
    await blobs.probe()
    assert [entry async for entry in blobs.place.list()] == []


async def test_a_bucket_that_is_not_there(s3: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {**ENVIRONMENT, "AWS_ENDPOINT_URL": s3}.items():
        monkeypatch.setenv(name, value)
    blobs = open_blobs("s3://no-such-bucket/x", Path())
    for attempt in (blobs.put(DATA), blobs.probe()):
        with pytest.raises(StorageError, match="GATOR_BLOBS_URL"):
            await attempt


async def test_a_server_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {**ENVIRONMENT, "AWS_ENDPOINT_URL": "http://127.0.0.1:9"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(StorageError, match="AWS_ENDPOINT_URL"):
        await open_blobs(f"s3://{BUCKET}", Path()).get(KEY)


async def test_a_folder_that_is_a_file_or_gone(tmp_path: Path) -> None:
    blobs = BlobStore(tmp_path / "blobs")
    (tmp_path / "blobs").rmdir()
    (tmp_path / "blobs").write_text("a file where the folder was")
    for attempt in (blobs.put(DATA), blobs.get(KEY), blobs.probe(), keys(blobs)):
        with pytest.raises((StorageError, NotFound)):
            await attempt
    with pytest.raises(StorageError, match="cannot be used"):
        BlobStore(tmp_path / "blobs")


FULL = """
import asyncio, resource, signal, sys
from pathlib import Path
from backend.errors import StorageError
from backend.storage.blobs import BlobStore
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
blobs = BlobStore(Path(sys.argv[1]))
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    asyncio.run(blobs.put(bytes(5000)))
except StorageError as exc:
    print(exc)
"""


def in_a_process(code: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        stdout=subprocess.PIPE,
        text=True,
        env=child_environment({"PYTHONPATH": str(Path(__file__).parents[2] / "src")}),
    )


def test_a_write_that_fails_leaves_nothing(tmp_path: Path) -> None:
    with in_a_process(FULL, str(tmp_path)) as process:
        said, _ = process.communicate()
    assert "File too large" in said
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_called_full() -> None:
    from backend.storage.local import why

    with pytest.raises(OSError, match="space") as caught:
        Path("/dev/full").write_bytes(b"x")
    assert "is full" in why(caught.value)


WRITER = """
import asyncio, itertools, sys
from pathlib import Path
from backend.storage.blobs import BlobStore
async def main():
    blobs = BlobStore(Path(sys.argv[1]))
    for n in itertools.count():
        print(await blobs.put(f"{sys.argv[2]} {n} ".encode() * 100_000), flush=True)
asyncio.run(main())
"""


async def test_a_killed_writer_leaves_whole_blobs_and_perhaps_a_leftover(tmp_path: Path) -> None:
    folder = tmp_path / "blobs"
    promised = []
    for run in range(8):
        with in_a_process(WRITER, str(folder), str(run)) as process:
            assert process.stdout
            promised.append(process.stdout.readline().strip())
            await asyncio.sleep(0.013 * run)
            process.send_signal(signal.SIGKILL)
            promised += process.stdout.read().split()
    blobs = BlobStore(folder)
    held = await keys(blobs)
    assert {key for key in promised if len(key) == 64} <= set(held)
    for key in held:
        await blobs.get(key)


@pytest.mark.parametrize(
    "url", ["http://x", "s3://", "s3://UPPER", "/plain/path", "file://host/x", "s3://b ucket"]
)
def test_a_url_that_is_none_stops_the_start(url: str) -> None:
    with pytest.raises(ConfigurationError, match="GATOR_BLOBS_URL"):
        load_settings(blobs_url=url)


def test_urls_choose_the_place(tmp_path: Path) -> None:
    url = load_settings(blobs_url=f"file://{tmp_path}/some%20where").blobs_url
    assert open_blobs(url, tmp_path).folder == tmp_path / "some where"
    assert load_settings(blobs_url="s3://bucket/some/prefix").blobs_url
    assert open_blobs(None, tmp_path / "home").folder == tmp_path / "home"
