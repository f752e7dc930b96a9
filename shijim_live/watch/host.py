"""What a recorder needs of its host: disk, memory, files, clock, kernels. Looks, and leaves nothing behind."""

from __future__ import annotations

import os
import re
import resource
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Final

import rust_indicators
from shijim_live.calendar import SECOND_NS
from shijim_live.record.space import FREE_BYTES_MIN, FREE_BYTES_WARN, MIB
from shijim_live.watch.finding import Finding, unseen, warning, well, wrong
from shijim_live.watch.metrics import ADDRESS

# A recorder has some thirty files open, the SDK's connections a few dozen more.
OPEN_FILES_MIN: Final = 64
OPEN_FILES_WARN: Final = 256
# rust_indicators/src/ring.rs: a header of 2048 words, and a word beside each record.
RING_HEADER_BYTES: Final = 2_048 * 8
RING_SLOT_BYTES: Final = 264
# The broker refuses what was signed 30 s ago; a latency means little when the clock is off by more than it.
CLOCK_OFFSET_WRONG_NS: Final = 10 * SECOND_NS
CLOCK_OFFSET_WARN_NS: Final = SECOND_NS // 20
COMMAND_SECONDS_MAX: Final = 3.0  # of a program that is asked about the clock

FORGETFUL: Final = ("tmpfs", "ramfs")
DISTANT: Final = ("nfs", "nfs4", "cifs", "smb3", "9p", "afs", "ceph", "glusterfs", "fuse.sshfs", "lustre")
_MOUNTINFO: Final = Path("/proc/self/mountinfo")


def existing(folder: Path) -> Path:
    """The folder, or the nearest parent that is there."""
    return next(parent for parent in (folder, *folder.parents) if parent.exists())


def writable(about: str, folder: Path) -> Finding:
    """Whether a file can be made there and synced."""
    place = existing(folder)
    try:
        with tempfile.TemporaryFile(dir=place) as file:
            file.write(b"\0")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        return wrong(about, f"{place}: nothing can be written ({error.strerror})", "correct its owner, mode or mount, "
                     "or give another --data-dir")  # fmt: skip
    return well(about, f"{folder} can be written" if place == folder else f"{folder} is made at the first start")


def free_space(about: str, folder: Path) -> Finding:
    """Against the watermarks of the recorder."""
    free_bytes = shutil.disk_usage(existing(folder)).free
    text = f"{free_bytes / MIB:,.0f} MiB free at {folder}"
    if free_bytes < FREE_BYTES_MIN:
        return wrong(about, f"{text}: recording needs {FREE_BYTES_MIN / MIB:,.0f} MiB to start",
                     "free some space, or move the log with SHIJIM_RAW_DIR")  # fmt: skip
    if free_bytes < FREE_BYTES_WARN:
        return warning(about, f"{text}: less than {FREE_BYTES_WARN / MIB:,.0f} MiB last hours of a quiet market",
                       "free some space, or move the log with SHIJIM_RAW_DIR")  # fmt: skip
    return well(about, text)


def file_system(about: str, folder: Path) -> Finding:
    """What the folder lies on: memory, a container's own layer and a network are no place for the only copy."""
    if not _MOUNTINFO.exists():
        return unseen(about, "no /proc: what the folder lies on cannot be seen")
    kind = mounted_as(existing(folder), _MOUNTINFO.read_text())
    fix = "put the log on a local disk with SHIJIM_RAW_DIR"
    if kind in FORGETFUL:
        return warning(about, f"{folder} lies in memory ({kind}): what is acknowledged is gone with the power", fix)
    if kind == "overlay":
        return warning(about, f"{folder} lies in a container's own layer: it is gone with the container",
                       "mount a volume there, or put the log elsewhere with SHIJIM_RAW_DIR")  # fmt: skip
    if kind in DISTANT:
        return warning(about, f"{folder} lies on a network ({kind}): a sync waits for it, and locks may not hold", fix)
    return well(about, f"{folder} lies on {kind}")


def mounted_as(folder: Path, mounts: str) -> str:
    """The kind of file system of a folder, from the kernel's list of mounts; the last of equal places counts."""
    resolved = folder.resolve()
    found = "?"
    depth = -1
    for line in mounts.splitlines():
        before, _, after = line.partition(" - ")
        place = Path(re.sub(r"\\(\d{3})", lambda octal: chr(int(octal[1], 8)), before.split(" ")[4]))
        if len(place.parts) >= depth and resolved.is_relative_to(place):
            found, depth = after.split(" ")[0], len(place.parts)
    return found


def shared_memory(about: str, ring: Path, slots: int) -> Finding:
    """Whether the ring fits where it will lie; one that is there already does."""
    if ring.parent != Path("/dev/shm"):
        return warning(about, f"no /dev/shm: the ring lies in {ring.parent}", "mount a tmpfs there, for speed")
    needed = RING_HEADER_BYTES + slots * RING_SLOT_BYTES
    free_bytes = shutil.disk_usage(ring.parent).free + (ring.stat().st_size if ring.exists() else 0)
    text = f"a ring of {slots:,} slots takes {needed / MIB:,.0f} of {free_bytes / MIB:,.0f} MiB in /dev/shm"
    if free_bytes < needed:
        return wrong(about, text, "enlarge it (mount -o remount,size=…; docker run --shm-size), or lower "
                     "SHIJIM_BUS_MAX_QUEUE")  # fmt: skip
    return well(about, text)


def open_files(about: str) -> Finding:
    """The limit of this shell; a service has its own."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    fix = "ulimit -n 1024, or LimitNOFILE=1024 in the unit"
    if limit == resource.RLIM_INFINITY or limit >= OPEN_FILES_WARN:
        return well(about, f"{'any number of' if limit == resource.RLIM_INFINITY else f'{limit:,}'} files may be open")
    text = f"only {limit:,} files may be open"
    return wrong(about, text, fix) if limit < OPEN_FILES_MIN else warning(about, text, fix)


def metrics_port(about: str, port: int, *, recording: bool) -> Finding:
    """Whether the recorder will get its port; one that runs has it."""
    if port == 0 or recording:
        return well(about, "/metrics is off" if port == 0 else f"/metrics on {ADDRESS}:{port}")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((ADDRESS, port))
        except OSError as error:
            return warning(about, f"{ADDRESS}:{port} cannot be had ({error.strerror}); recording goes on without it",
                           "give another SHIJIM_METRICS_PORT, or 0 for none")  # fmt: skip
    return well(about, f"{ADDRESS}:{port} is free")


def kernels(about: str) -> Finding:
    """Which build of the kernels this is."""
    built = f"{rust_indicators.BACKEND} kernels"
    if not rust_indicators.OPTIMIZED:
        return wrong(
            about,
            f"{built} of a debug build: many times too slow for a market",
            "install it again: pip install shijim; in a checkout make test builds it",
        )
    return well(about, f"{built}, release build")


def clock(about: str) -> Iterator[Finding]:
    """How far the host's clock is off, as far as its own keeper says; and that the zone does not matter."""
    yield (
        _chrony(about)
        or _timedatectl(about)
        or unseen(
            about,
            "neither chrony nor systemd tell of this host's clock",
            "keep it by NTP; chronyc tracking shows how well",
        )
    )
    yield well("time zone", f"{time.tzname[0]}: of no consequence, Taipei's time is reckoned in integers")


def _chrony(about: str) -> Finding | None:
    fields = _answer("chronyc", "-c", "tracking").strip().split(",")
    if len(fields) < 14:
        return None
    if fields[-1] == "Not synchronised":
        return warning(about, "chrony does not follow any server", "chronyc sources shows which were asked")
    try:
        offset_ns = int(abs(Decimal(fields[4])) * SECOND_NS)
    except InvalidOperation:
        return None
    text = f"chrony says that it is {offset_ns / 1_000_000:,.3f} ms off"
    if offset_ns >= CLOCK_OFFSET_WRONG_NS:
        return wrong(about, f"{text}: the broker refuses what such a clock signs", "chronyc makestep")
    if offset_ns >= CLOCK_OFFSET_WARN_NS:
        return warning(about, f"{text}: measured latencies will be too", "chronyc makestep")
    return well(about, text)


def _timedatectl(about: str) -> Finding | None:
    answer = _answer("timedatectl", "show", "--property=NTPSynchronized", "--value").strip()
    if answer == "yes":
        return well(about, "kept by NTP, by how much is not told")
    if answer == "no":
        return warning(about, "not kept by NTP", "timedatectl set-ntp true")
    return None


def _answer(*command: str) -> str:
    """What a program prints; nothing where it is not there or fails."""
    if shutil.which(command[0]) is None:
        return ""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=COMMAND_SECONDS_MAX)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""
