"""The home folder: is it there, can it be written, is there room?"""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from pathlib import Path

from backend.errors import StorageError

MIN_FREE_BYTES = 64 * 1024**2
_PROBE = b"\0" * 65_536


def prepare_home(home: Path) -> None:
    """Make the home folder and prove that it can be written, before any work is begun.

    Raises:
        StorageError: it is read-only, full, or not a folder.
    """
    try:
        home.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=home, prefix=".probe-") as probe:
            probe.write(_PROBE)
            probe.flush()
            os.fsync(probe.fileno())
        free = shutil.disk_usage(home).free
    except OSError as exc:
        raise StorageError(
            f"GATOR_HOME {home.absolute()} {_why(exc)}", {"home": str(home)}
        ) from exc
    if free < MIN_FREE_BYTES:
        raise StorageError(
            f"GATOR_HOME {home.absolute()} has {free // 1024**2} MiB free; at least "
            f"{MIN_FREE_BYTES // 1024**2} MiB are needed. Make room or set GATOR_HOME elsewhere.",
            {"home": str(home), "free_bytes": free},
        )


def _why(exc: OSError) -> str:
    if exc.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
        return "cannot be written. Change its permissions or set GATOR_HOME elsewhere."
    if exc.errno in (errno.ENOSPC, errno.EDQUOT):
        return "is full. Make room or set GATOR_HOME elsewhere."
    return f"cannot be used: {exc.strerror}. Set GATOR_HOME to a folder."


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file in one step, so that nobody ever sees half of it.

    Raises:
        StorageError: it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".part-", delete=False) as part:
            part.write(data)
            part.flush()
            os.fsync(part.fileno())
        Path(part.name).replace(path)
    except OSError as exc:
        raise StorageError(f"{path} cannot be written: {exc.strerror}.") from exc
