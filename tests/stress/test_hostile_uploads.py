"""Thousands of hostile uploads: refused or made harmless, each in time, in little memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import psutil
import pytest
from PIL import Image

from backend.config import child_environment
from backend.errors import InvalidRequest, TooLarge
from backend.imaging.intake import accept_picture
from tests.fixtures.hostile import hostile
from tests.fixtures.pictures import encoded, exif, noise, opened, png_of

LIMIT_S = 2.0
LIMIT_BYTES = 400 * 1024**2
ROOT = Path(__file__).parents[2]


def check(seed: int) -> tuple[str, float]:
    """Try one; return how it ended and how many seconds of processor time it took."""
    name, data = hostile(seed)
    before = cpu_s()
    try:
        accepted = accept_picture(data)
    except (InvalidRequest, TooLarge) as exc:
        fields = [error["field"] for error in exc.details["errors"]]
        return f"{name}: refused, naming {fields}", cpu_s() - before
    seconds = cpu_s() - before
    picture = opened(accepted.data)
    assert picture.size == (accepted.width, accepted.height)
    assert f"image/{picture.format}".lower() == accepted.mime
    assert not picture.getexif()
    return f"{name}: taken", seconds


def worst(count: int) -> dict[str, Any]:
    """Try many; return the endings, the longest and the most memory this process had."""
    endings: Counter[str] = Counter()
    longest, which = 0.0, -1
    for seed in range(count):
        ending, seconds = check(seed)
        endings[ending] += 1
        if seconds > longest:
            longest, which = seconds, seed
    return {
        "endings": endings, "longest_s": longest, "seed": which, "peak_bytes": peak_bytes(),
    }  # fmt: skip


@pytest.mark.timeout(3_600)
def test_hostile_uploads_do_no_harm(rounds: Any) -> None:
    """In a process of its own, so that its memory is its own."""
    count = rounds(300, 10_000)
    done = subprocess.run(
        [sys.executable, "-W", "error", __file__, str(count)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=child_environment({"PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"}),
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4_000:]
    report = json.loads(done.stdout)
    assert sum(report["endings"].values()) == count
    assert {e.partition(": ")[2] for e in report["endings"]} == {
        "taken",
        "refused, naming ['file']",
    }
    assert report["longest_s"] < LIMIT_S, report
    assert report["peak_bytes"] < LIMIT_BYTES, report
    print(json.dumps(report, indent=1, sort_keys=True))  # noqa: T201


LARGEST = """
import json, resource, sys, time
import backend.api.app
from backend.imaging.intake import accept_picture
from tests.stress.test_hostile_uploads import cpu_s, peak_bytes
data = sys.stdin.buffer.read()
before, start, cpu = peak_bytes(), time.monotonic(), cpu_s()
accepted = accept_picture(data)
seconds, children = time.monotonic() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
print(json.dumps({
    "size": [accepted.width, accepted.height],
    "bytes": [len(data), len(accepted.data)],
    "seconds": seconds,
    "cpu_s": cpu_s() - cpu,
    "idle_bytes": before,
    "server_bytes": peak_bytes(),
    "decoder_bytes": children.ru_maxrss * 1024,
}))
"""


def cpu_s() -> float:
    """Seconds of processor time that this process and those it started have had."""
    return sum(os.times()[:4])


def peak_bytes() -> int:
    """The most memory this process had resident; unlike getrusage's, not inherited."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.partition("VmHWM:")[2].split()[0])


def largest(kind: str) -> bytes:
    plain = noise(1_024, 610).resize((8_192, 4_880), Image.Resampling.BILINEAR)
    if kind == "progressive":
        return encoded(plain, "JPEG", quality=70, progressive=True)
    if kind == "turned":
        return encoded(plain, "JPEG", quality=70, exif=exif(6))
    if kind == "small":
        return encoded(noise(3_000, 2_000), "PNG", compress_level=1)
    if kind == "deep":
        return png_of(8_192, 4_880, depth=16, colour=6)
    return encoded(plain, kind.upper(), quality=70)


@pytest.mark.parametrize("kind", ["jpeg", "progressive", "turned", "webp", "deep", "small"])
def test_the_largest_pictures_leave_the_server_small(kind: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LARGEST],
        input=largest(kind),
        capture_output=True,
        env=child_environment({"PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"}),
        check=True,
    )
    report = json.loads(done.stdout)
    print(kind, json.dumps(report))  # noqa: T201
    assert report["cpu_s"] < LIMIT_S
    assert report["server_bytes"] < LIMIT_BYTES
    assert report["decoder_bytes"] < 2 * LIMIT_BYTES


def test_an_upload_ends_its_process() -> None:
    accept_picture(png_of(3_100, 3_000))
    assert not [child for child in psutil.Process().children() if child.status() == "zombie"]


if __name__ == "__main__":
    print(json.dumps(worst(int(sys.argv[1]))))  # noqa: T201
