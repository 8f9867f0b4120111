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
from backend.imaging.intake import MAX_UPLOAD_BYTES, accept_picture
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
    count = rounds(150, 10_000)
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
    """40 megapixels; soft, but not so plain that nothing is left to decode."""
    width, height = 8_192, 4_880
    mode = "RGBA" if "transparent" in kind else "RGB"
    plain = noise(512, 305, mode).resize((width, height), Image.Resampling.BILINEAR)
    match kind.split()[-1]:
        case "progressive":
            return encoded(plain, "JPEG", quality=70, progressive=True)
        case "turned":
            return encoded(plain, "JPEG", quality=70, exif=exif(6))
        case "lossless":
            flat = plain.point(lambda level: level & 0xC0)
            return encoded(flat, "WEBP", lossless=True, quality=0, method=0)
        case "webp":
            return encoded(plain, "WEBP", quality=40, method=0)
        case "deep":
            return png_of(width, height, depth=16, colour=6)
        case "interlaced":
            return png_of(width, height, colour=6, interlace=1, rows=2 * height)
        case "png":
            flat = plain.point(lambda level: level & 0x80)
            return encoded(flat, "PNG", compress_level=1)
        case "small":
            return encoded(noise(3_000, 2_000), "PNG", compress_level=1)
        case _:
            return encoded(plain, "JPEG", quality=70)


SHORT = ("progressive", "webp", "deep", "small")
LONG = (
    "jpeg",
    "turned",
    "png",
    "interlaced",
    "lossless",
    "transparent webp",
    "transparent lossless",
)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "kind" in metafunc.fixturenames:
        stress = metafunc.config.getoption("--stress")
        metafunc.parametrize("kind", SHORT + LONG if stress else SHORT)


def test_the_largest_pictures_leave_the_machine_its_memory(kind: str) -> None:
    """Server and decoder together, the one's peak and the other's."""
    data = largest(kind)
    assert len(data) <= MAX_UPLOAD_BYTES
    done = subprocess.run(
        [sys.executable, "-c", LARGEST],
        input=data,
        capture_output=True,
        env=child_environment({"PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"}),
        check=True,
    )
    report = json.loads(done.stdout)
    print(kind, json.dumps(report))  # noqa: T201
    assert report["cpu_s"] < LIMIT_S
    assert report["server_bytes"] + report["decoder_bytes"] < LIMIT_BYTES


def test_an_upload_ends_its_process() -> None:
    accept_picture(png_of(3_100, 3_000))
    assert not [child for child in psutil.Process().children() if child.status() == "zombie"]


if __name__ == "__main__":
    print(json.dumps(worst(int(sys.argv[1]))))  # noqa: T201
