"""Run `gator` as a user does: a process with its own home and environment."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

GATOR = str(Path(sys.executable).parent / "gator")


@dataclass(frozen=True)
class Cli:
    """The command line on one home folder."""

    home: Path
    devices: str = "cpu:2"

    def environment(self, **changes: str) -> dict[str, str]:
        mine = {"GATOR_HOME": str(self.home), "GATOR_DEVICES": self.devices}
        # The test runner's processes have a width of their own, which is no terminal's.
        known = {name: os.environ[name] for name in os.environ.keys() - {"COLUMNS", "LINES"}}
        return {**known, **mine, **changes}

    def run(self, *arguments: str, **changes: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [GATOR, *arguments],
            capture_output=True,
            text=True,
            env=self.environment(**changes),
            cwd=self.home.parent,
            timeout=240,
            check=False,
        )

    def json(self, *arguments: str, **changes: str) -> dict[str, Any]:
        done = self.run(*arguments, "--json", **changes)
        assert done.returncode == 0, done.stdout + done.stderr
        answer: dict[str, Any] = json.loads(done.stdout)
        return answer

    def start(self, *arguments: str, **changes: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [GATOR, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=self.environment(**changes),
            cwd=self.home.parent,
        )
