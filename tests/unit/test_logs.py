"""Logs: one line a record for collectors, whole tracebacks, and no local variables in them."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections.abc import Iterator

import pytest
import structlog

from backend.logs import configure_logs, get_logger


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    yield
    root.handlers, root.level = handlers, level
    structlog.reset_defaults()


def crash(password: str) -> None:
    try:
        raise RuntimeError("boom")
    except RuntimeError:
        get_logger("tests.crash").exception("crashed", path="/x")
        logging.getLogger("tests.std").exception("crashed too")


def test_json_logs_hold_the_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs("INFO", as_json=True)
    crash("hunter2")
    out, err = capsys.readouterr()
    assert out == ""
    own, foreign = map(json.loads, err.splitlines())
    assert (own["event"], own["path"], own["level"]) == ("crashed", "/x", "error")
    assert foreign["event"] == "crashed too"
    for record in (own, foreign):
        assert "RuntimeError: boom" in record["exception"]
    assert "hunter2" not in err


def test_logs_for_people_show_no_local_variables(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs("INFO")
    crash("hunter2")
    err = capsys.readouterr().err
    assert err.count("RuntimeError: boom") == 2
    assert "hunter2" not in err


def test_without_a_configuration_nothing_is_written_among_a_programs_output() -> None:
    code = (
        "from backend.logs import get_logger; log = get_logger('x');"
        "log.info('quiet'); log.warning('loud', device='cpu:0')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == ""
    assert "quiet" not in done.stderr
    assert "loud" in done.stderr
