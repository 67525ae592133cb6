"""What the disk can do by itself: a 4 KiB write and fdatasync, the least that any fsynced confirm costs, in time and in
CPU (the kernel's part of it is the server's too)."""

import os
import time
from pathlib import Path

BLOCK_BYTES = 4096
FILE_BLOCKS = 1024
SAMPLES = 400
LIMIT_S = 3.0


def probe_fdatasync_us(folder):
    """(times, CPU each) of 4 KiB written into a pre-written file and fdatasynced, in microseconds."""
    path = Path(folder) / "fdatasync"
    block = os.urandom(BLOCK_BYTES)
    if not path.exists():
        with open(path, "wb") as new:
            new.write(bytes(BLOCK_BYTES * FILE_BLOCKS))
            new.flush()
            os.fsync(new.fileno())
    fd = os.open(path, os.O_WRONLY)
    times = []
    cpu = time.process_time_ns()
    end = time.monotonic() + LIMIT_S
    try:
        for i in range(SAMPLES):
            start = time.monotonic_ns()
            os.pwrite(fd, block, i % FILE_BLOCKS * BLOCK_BYTES)
            os.fdatasync(fd)
            times.append((time.monotonic_ns() - start) / 1000)
            if time.monotonic() > end:
                break
    finally:
        os.close(fd)
    return times, (time.process_time_ns() - cpu) / 1000 / len(times)


def file_system(folder):
    """'ext4 on /dev/vda': what the numbers of this folder are numbers of."""
    folder = str(Path(folder).resolve())
    mounts = [line.split()[:3] for line in Path("/proc/mounts").read_text().splitlines()]
    inside = [m for m in mounts if (folder + "/").startswith(m[1].rstrip("/") + "/")]
    device, _, kind = max(inside, key=lambda m: len(m[1]))
    return f"{kind} on {device}"
