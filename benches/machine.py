"""What the figures were measured on."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path

PACKAGES = ("shioaji", "pyarrow", "numpy", "hftbacktest", "numba", "chdb", "orjson")


def facts(folder: Path) -> dict[str, str]:
    """Name → value, for the head of the results."""
    return {
        "cores": f"{len(os.sched_getaffinity(0))}, {_cpu_model()}",
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB",
        "load before": " ".join(f"{load:.1f}" for load in os.getloadavg()),
        "kernel": platform.release(),
        "disk": disk(folder),
        "Python": platform.python_version(),
        "Rust": _first_line(["rustc", "--version"]),
        "packages": ", ".join(f"{name} {version(name)}" for name in PACKAGES),
        "commit": _first_line(["git", "describe", "--always", "--dirty"]),
    }


def disk(folder: Path) -> str:
    """File system and device under a folder, and whether they are a disk at all."""
    mounts = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    path = str(folder.resolve())
    under = [mount for mount in mounts if path == mount[1] or path.startswith(mount[1].rstrip("/") + "/")]
    device, _, kind = max(under, key=lambda mount: len(mount[1]))[:3]
    if not device.startswith("/dev/"):
        return f"{kind} ({device}): not a disk, so figures with fdatasync mean nothing"
    number = folder.stat().st_dev
    queue = Path(f"/sys/dev/block/{os.major(number)}:{os.minor(number)}/queue")
    rotating = (queue / "rotational").read_text().strip() if (queue / "rotational").exists() else "?"
    kept = (queue / "write_cache").read_text().strip() if (queue / "write_cache").exists() else "?"
    virtual = (
        ", a virtual machine's: what stands behind it cannot be seen" if "/vd" in device or "/xvd" in device else ""
    )
    return f"{kind} on {device} (rotational {rotating}, {kept}{virtual})"


def _cpu_model() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def _first_line(command: list[str]) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[0]
    except (OSError, subprocess.CalledProcessError, IndexError):
        return "unknown"
