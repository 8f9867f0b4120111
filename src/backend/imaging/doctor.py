"""Look at every device before work is given to it, and say what is wrong in plain words.

What the field does: a program starts, imports torch in the process that serves, and fails with the
first picture. What users complain of: "Torch not compiled with CUDA enabled" where a card is in the
machine; "no kernel image is available" after minutes of loading; a ROCm library that aborts the
whole program on an older card; black pictures from a half precision that the card does not compute.

Ours: every device is probed in a process of its own, pinned as the pool pins its workers, so that a
crash or a hang is a verdict and not an end. The parent never imports torch. What the machine has is
read from the PCI bus, so a card that torch does not see is found too.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backend.config import child_environment, inherited
from backend.imaging.devices import Device, resolve_devices, torch_installed
from backend.imaging.pool.process import pinned
from backend.imaging.verdicts import Check, Ending, Verdict, judge, without_torch

PROBE = "backend.imaging.diffusion.preflight"
TIMEOUT_S = 180.0
AT_ONCE = 8
"""Devices that are probed at the same time."""

_LAST_WORDS = 300
_LAST_LINES = {"end", "count"}
_UNKILLABLE_S = 5.0
_VENDORS = {"0x10de": "NVIDIA", "0x1002": "AMD"}
_BUILDS = {"NVIDIA": "CUDA", "AMD": "ROCm"}
_DISPLAY = "0x03"
_ACCELERATOR = "0x12"


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What was found.

    Attributes:
        verdicts: one a device.
        notes: what concerns the machine as a whole.
    """

    verdicts: Sequence[Verdict]
    notes: Sequence[str] = ()

    @property
    def ok(self) -> bool:
        """Whether every device that is to be used can be."""
        return all(verdict.state != "unusable" for verdict in self.verdicts)

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        devices = [verdict.as_dict() for verdict in self.verdicts]
        return {"ok": self.ok, "devices": devices, "notes": list(self.notes)}


def diagnose(
    setting: str,
    *,
    cpu_threads: int = 1,
    timeout_s: float = TIMEOUT_S,
    probe: str = PROBE,
    root: Path = Path("/"),
) -> Diagnosis:
    """Probe every device of `GATOR_DEVICES`.

    Args:
        setting: as `resolve_devices` takes it.
        cpu_threads: torch threads of a CPU slot.
        timeout_s: how long one device may take, in seconds.
        probe: the module that is run; it speaks as the preflight does.
        root: where `sys` and `dev` are.

    Raises:
        ConfigurationError: a card is named that is not here.
    """
    cards = cards_on_the_bus(root)
    if not torch_installed():
        devices = resolve_devices(setting, gpus=0)
        return Diagnosis([without_torch(device.name) for device in devices])
    counted = _counted(probe, timeout_s)
    if isinstance(counted, Verdict):
        return Diagnosis([counted], _unseen(cards, counted.checks, root))
    devices = resolve_devices(setting, gpus=counted)
    verdicts: list[Verdict] = []
    for first in range(0, len(devices), AT_ONCE):
        group = devices[first : first + AT_ONCE]
        verdicts += _probed(group, cpu_threads, timeout_s, probe)
    notes = _unseen(cards, verdicts[0].checks, root) if not counted else ()
    return Diagnosis(verdicts, notes)


def cards_on_the_bus(root: Path = Path("/")) -> Mapping[str, int]:
    """Count the display and accelerator cards on the PCI bus, by vendor."""
    found: Counter[str] = Counter()
    for folder in sorted((root / "sys/bus/pci/devices").glob("*")):
        vendor = _VENDORS.get(_line(folder / "vendor"))
        if vendor and _line(folder / "class").startswith((_DISPLAY, _ACCELERATOR)):
            found[vendor] += 1
    return found


def _line(path: Path) -> str:
    try:
        return path.read_text("utf-8").strip()
    except OSError:
        return ""


def _unseen(cards: Mapping[str, int], checks: Sequence[Check], root: Path) -> tuple[str, ...]:
    """Say why torch may not see the cards that are in the machine."""
    build = next((str(c.facts.get("build", "")) for c in checks if c.check == "torch"), "")
    found = []
    for vendor, number in cards.items() if build else ():
        has = f"This machine has {number} {vendor} card{'s' if number > 1 else ''}, and torch"
        wanted = _BUILDS[vendor]
        if not build.startswith(wanted):
            found.append(
                f"{has} is a build for {build}: install the {wanted} build "
                "over it (README, Your own GPUs)."
            )
        elif hidden := inherited("CUDA_VISIBLE_DEVICES") or inherited("HIP_VISIBLE_DEVICES"):
            found.append(f"{has} is shown the cards {hidden!r} alone, by CUDA_VISIBLE_DEVICES.")
        else:
            found.append(f"{has} does not see it: {_no_driver(vendor, root)}")
    return tuple(found)


def _no_driver(vendor: str, root: Path) -> str:
    door = root / ("dev/kfd" if vendor == "AMD" else "dev/nvidiactl")
    if not door.exists():
        return f"its driver is not loaded (there is no /{door.relative_to(root)})."
    if not os.access(door, os.R_OK | os.W_OK):
        groups = "; the groups render and video may" if vendor == "AMD" else ""
        return f"this user may not open /{door.relative_to(root)}{groups}."
    return "the driver and this build of torch do not fit together."


def _counted(probe: str, timeout_s: float) -> int | Verdict:
    """Count the cards that torch sees, or judge why it cannot even count."""
    with _Probe(probe, "count", {}) as counting:
        lines, ending = counting.outcome(time.monotonic() + timeout_s)
    for line in lines:
        if isinstance(number := line.get("count"), int):
            return number
    return judge("torch", [], ending)


def _probed(
    devices: Sequence[Device], cpu_threads: int, timeout_s: float, probe: str
) -> list[Verdict]:
    deadline = time.monotonic() + timeout_s
    with ExitStack() as running:
        probes = []
        for device in devices:
            name = "cpu" if device.kind == "cpu" else "cuda:0"
            started = _Probe(probe, name, pinned(device, cpu_threads))
            probes.append(running.enter_context(started))
        verdicts = []
        for device, one in zip(devices, probes, strict=True):
            lines, ending = one.outcome(deadline)
            verdicts.append(judge(device.name, _checks(lines), ending))
        return verdicts


def _checks(lines: Sequence[Mapping[str, Any]]) -> list[Check]:
    return [Check(**line) for line in lines if "check" in line]


class _Probe:
    """A throwaway process that looks at one device; gone when the context ends."""

    def __init__(self, module: str, argument: str, environment: Mapping[str, str]) -> None:
        self._started = time.monotonic()
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the probe
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - likewise
        self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
            [sys.executable, "-m", module, argument],
            stdin=subprocess.DEVNULL,
            stdout=self._said,
            stderr=self._errors,
            env=child_environment(environment),
            start_new_session=True,
        )

    def __enter__(self) -> _Probe:
        return self

    def __exit__(self, *_: object) -> None:
        self._end()
        self._said.close()
        self._errors.close()

    def outcome(self, deadline: float) -> tuple[list[dict[str, Any]], Ending]:
        """Wait for its end, until a deadline of the monotonic clock, and read what it said."""
        try:
            code = self._process.wait(max(deadline - time.monotonic(), 0))
        except subprocess.TimeoutExpired:
            how = f"no answer for {time.monotonic() - self._started:.0f} s"
            if not self._end():
                how += ", and it cannot be killed"
        else:
            how = "well" if code == 0 else f"exit code {code}"
            if code < 0:
                how = f"killed by {signal.Signals(-code).name}"
        lines = list(self._lines())
        if how == "well" and not any(_LAST_LINES & line.keys() for line in lines):
            how = "exit code 0, too early"
        begun = [str(line["begin"]) for line in lines if "begin" in line]
        ended = {line["check"] for line in lines if "check" in line}
        during = begun[-1] if begun and begun[-1] not in ended else ""
        return lines, Ending(how, during, "" if how == "well" else self._last_words())

    def _end(self) -> bool:
        """Kill it; a process that hangs in its driver outlives that, and is left behind."""
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
        try:
            self._process.wait(_UNKILLABLE_S)
        except subprocess.TimeoutExpired:
            return False
        return True

    def _lines(self) -> Iterator[dict[str, Any]]:
        """Return the JSON objects it printed; a library may have printed in between."""
        self._said.seek(0)
        for line in self._said:
            try:
                value = json.loads(line)
            except ValueError:
                continue
            if isinstance(value, dict):
                yield value

    def _last_words(self) -> str:
        self._errors.seek(0)
        lines = self._errors.read().decode("utf-8", "replace").strip().splitlines()
        return lines[-1][-_LAST_WORDS:] if lines else ""
