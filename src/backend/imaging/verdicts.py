"""From what a probe found to a verdict in plain words, and what to do.

Pure: a probe's lines and its ending go in, sentences come out. What is essential (memory,
multiplying, convolving, attention, a VAE's decoding) makes a device unusable where it fails; what a
model can go round (a half precision) limits it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, NamedTuple

State = Literal["ready", "limited", "unusable"]

ESSENTIAL = ("device", "memory", "matmul", "convolution", "attention", "vae")
SMALL_BYTES = 6 * 1024**3
_GIB = 1024**3
_NO_KERNELS = re.compile(
    r"no kernel image|invalid device function|NoBinaryForGpu|Tensile|not compatible", re.IGNORECASE
)
_NO_MEMORY = re.compile(r"out of memory|not enough memory|can't allocate", re.IGNORECASE)
_OLD_DRIVER = re.compile(r"driver version is insufficient|driver.*too old", re.IGNORECASE)

_ABORTED = (
    "The driver or a library of torch ended the process. The kernel's log (`dmesg`) may say why; a "
    "restart of the machine frees a card that hangs."
)


class Known(NamedTuple):
    """What is known of an architecture: how it is used, and what to do where it fails."""

    use: str
    remedy: str


KNOWN = {
    "gfx900": Known(
        use="gfx900 (MI25, Vega 56 and 64) is known: models run in float16, since it has no "
        "bfloat16 of its own; the VAE decodes in float32, since its float16 overflows; nothing is "
        "compiled.",
        remedy="Newer ROCm builds of torch come without libraries for gfx900 and abort in the "
        "first multiplication; builds for ROCm 6.2 and 6.3 had them.",
    ),
}


@dataclass(frozen=True, slots=True)
class Check:
    """What one check found."""

    check: str
    ok: bool
    says: str
    seconds: float = 0
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Ending:
    """How a probe ended.

    Attributes:
        how: `well`, or such as `killed by SIGABRT`, `exit code 1`, `no answer for 120 s`.
        during: the check that was under way, if one was.
        last_words: the end of what it wrote to stderr.
    """

    how: str = "well"
    during: str = ""
    last_words: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What to think of one device.

    Attributes:
        device: such as `cuda:1` or `cpu:0`.
        says: one sentence.
        advice: what to do, and what is good to know.
        checks: what was found, in order.
    """

    device: str
    state: State
    says: str
    advice: Sequence[str] = ()
    checks: Sequence[Check] = ()

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self)


def judge(device: str, checks: Sequence[Check], ending: Ending) -> Verdict:
    """Judge one device by what its probe found before it ended."""
    by_name = {check.check: check for check in checks}
    loaded = by_name.get("torch")
    if loaded and not loaded.ok:
        advice = ("Install torch again, in the build for this machine (README, Your own GPUs).",)
        return Verdict(device, "unusable", f"torch does not load: {loaded.says}", advice, checks)
    if ending.how != "well":
        return _ended(device, checks, ending, by_name)
    failed = next((c for name in ESSENTIAL if (c := by_name.get(name)) and not c.ok), None)
    if failed:
        says = f"{failed.check} fails: {failed.says}"
        return Verdict(device, "unusable", says, _remedies(device, failed.says, by_name), checks)
    limits = _limits(device, by_name)
    says = _described(by_name)
    return Verdict(device, "limited" if limits else "ready", says, limits, checks)


def without_torch(device: str) -> Verdict:
    """Judge a device of an install without the extra `local`."""
    return Verdict(
        device,
        "limited",
        "torch is not installed: the illustrated engine draws the pictures, on the CPU.",
        ("For diffusion models install the extra: pip install 'gator-studio[local]'.",),
    )


def _ended(
    device: str, checks: Sequence[Check], ending: Ending, by_name: Mapping[str, Check]
) -> Verdict:
    during = ending.during or "start"
    words = f": {ending.last_words}" if ending.last_words else ""
    says = f"the probe ended in {during} ({ending.how}){words}"
    advice = _remedies(device, ending.last_words, by_name)
    if not _NO_KERNELS.search(ending.last_words):
        advice = (_ABORTED, *advice)
    return Verdict(device, "unusable", says, advice, checks)


def _remedies(device: str, said: str, by_name: Mapping[str, Check]) -> tuple[str, ...]:
    """Say what to do about a device that does not work."""
    facts = by_name["device"].facts if "device" in by_name else {}
    architecture = str(facts.get("architecture", ""))
    found = []
    built_for = facts.get("built_for", ())
    if _NO_KERNELS.search(said) or (built_for and architecture not in built_for):
        found.append(
            f"This torch is built for {', '.join(built_for) or 'other cards'}; the card is "
            f"{architecture or 'another'}. Install a build that has it."
        )
    if _NO_MEMORY.search(said):
        found.append("Another program holds the card's memory; end it, or use another card.")
    if _OLD_DRIVER.search(said):
        found.append("The driver is older than this torch needs; bring the driver up to date.")
    if known := KNOWN.get(architecture):
        found.append(known.remedy)
    if device.startswith("cuda"):
        found.append("Until then leave the card out: GATOR_DEVICES names those to use.")
    return tuple(found)


def _limits(device: str, by_name: Mapping[str, Check]) -> tuple[str, ...]:
    """Say what a working card cannot do; a CPU slot works in single precision anyway."""
    if not device.startswith("cuda"):
        return ()
    architecture = str(by_name["device"].facts.get("architecture", ""))
    known = KNOWN.get(architecture)
    found = [known.use] if known else []
    for name in ("float16", "bfloat16", "vae in float16"):
        check = by_name.get(name)
        if check and not check.ok and not known:
            found.append(f"{name} does not work ({check.says}); models that need it will fail.")
    total = by_name["memory"].facts.get("total_bytes", 0) if "memory" in by_name else 0
    if 0 < total < SMALL_BYTES:
        found.append(
            f"It has {total / _GIB:.0f} GiB: SDXL and FLUX will be moved in and out of it "
            "(slow), or not fit."
        )
    return tuple(found)


def _described(by_name: Mapping[str, Check]) -> str:
    facts = by_name["device"].facts
    parts = [by_name["device"].says]
    if memory := by_name.get("memory"):
        parts.append(memory.says)
    dtype, vae = facts.get("dtype"), facts.get("vae_dtype")
    if dtype:
        parts.append(f"models in {dtype}" + (f", the VAE in {vae}" if vae != dtype else ""))
    return "; ".join(parts) + "."
