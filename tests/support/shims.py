"""System calls that fail or lie on command: small C libraries, compiled here, put before libc with LD_PRELOAD."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Final

_SYNC: Final = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* While the file $SHIM_FLAG exists, syncing fails with EIO for descriptors whose path ends as the file says. */
static int fails(int fd) {
    char link[64], path[4096], wanted[256];
    FILE *flag = fopen(getenv("SHIM_FLAG"), "re");
    if (!flag) return 0;
    size_t wanted_length = fread(wanted, 1, sizeof wanted - 1, flag);
    fclose(flag);
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path);
    return length >= (ssize_t)wanted_length
        && memcmp(path + length - wanted_length, wanted, wanted_length) == 0;
}
int fdatasync(int fd) {
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, "fdatasync");
    if (fails(fd)) { errno = EIO; return -1; }
    return real(fd);
}
int fsync(int fd) {
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, "fsync");
    if (fails(fd)) { errno = EIO; return -1; }
    return real(fd);
}
"""

_SLOW: Final = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

/* $SHIM_SLOW holds the milliseconds that a sync takes longer. */
static void wait_first(void) {
    FILE *file = fopen(getenv("SHIM_SLOW"), "re");
    long ms = 0;
    struct timespec time;
    int (*real)(clockid_t, int, const struct timespec *, struct timespec *) =
        (int (*)(clockid_t, int, const struct timespec *, struct timespec *))dlsym(RTLD_NEXT, "clock_nanosleep");
    if (!file) return;
    if (fscanf(file, "%ld", &ms) != 1) ms = 0;
    fclose(file);
    time.tv_sec = ms / 1000; time.tv_nsec = ms % 1000 * 1000000;
    real(CLOCK_MONOTONIC, 0, &time, NULL);
}
int fdatasync(int fd) {
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, "fdatasync");
    wait_first();
    return real(fd);
}
int fsync(int fd) {
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, "fsync");
    wait_first();
    return real(fd);
}
"""

_CLOCK: Final = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/timex.h>
#include <time.h>

/* $SHIM_CLOCK holds two numbers: seconds to add to the wall clock, and 1 where the kernel calls it synchronised. */
static void told(long *offset, int *synchronised) {
    FILE *file = fopen(getenv("SHIM_CLOCK"), "re");
    *offset = 0; *synchronised = 0;
    if (!file) return;
    if (fscanf(file, "%ld %d", offset, synchronised) < 2) *synchronised = 0;
    fclose(file);
}
int clock_gettime(clockid_t clock, struct timespec *time) {
    static int (*real)(clockid_t, struct timespec *);
    long offset; int synchronised;
    if (!real) real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    int result = real(clock, time);
    if (result == 0 && clock == CLOCK_REALTIME) { told(&offset, &synchronised); time->tv_sec += offset; }
    return result;
}
int adjtimex(struct timex *unused) {
    long offset; int synchronised;
    (void)unused;
    told(&offset, &synchronised);
    return synchronised ? TIME_OK : TIME_ERROR;
}
"""

AVAILABLE: Final = shutil.which("gcc") is not None


class FailingSync:
    """fsync and fdatasync that fail for some files while they are told to."""

    def __init__(self, folder: Path) -> None:
        self._flag = folder / "sync-fails"
        self.env = {"LD_PRELOAD": str(compiled(folder, "sync", _SYNC)), "SHIM_FLAG": str(self._flag)}

    def fail(self, path_end: str) -> None:
        """Let syncs of files whose path ends so fail from now on."""
        written = self._flag.with_suffix(".new")
        written.write_text(path_end)
        written.rename(self._flag)

    def heal(self) -> None:
        """Let all syncs work again."""
        self._flag.unlink()


class SlowSync:
    """fsync and fdatasync that take longer when they are told to."""

    def __init__(self, folder: Path) -> None:
        self._told = folder / "slow"
        self.env = {"LD_PRELOAD": str(compiled(folder, "slow", _SLOW)), "SHIM_SLOW": str(self._told)}
        self.set(0)

    def set(self, ms: int) -> None:
        """Let each sync take so much longer."""
        written = self._told.with_suffix(".new")
        written.write_text(str(ms))
        written.rename(self._told)


class ForgedClock:
    """A wall clock that is put forward and back, and a kernel that calls it synchronised or not."""

    def __init__(self, folder: Path) -> None:
        self._told = folder / "clock"
        self.env = {"LD_PRELOAD": str(compiled(folder, "clock", _CLOCK)), "SHIM_CLOCK": str(self._told)}
        self.set(0)

    def set(self, offset_secs: int, *, synchronised: bool = False) -> None:
        """Put the clock so far from the true time (negative: back)."""
        written = self._told.with_suffix(".new")
        written.write_text(f"{offset_secs} {int(synchronised)}")
        written.rename(self._told)


def together(*environments: Mapping[str, str]) -> dict[str, str]:
    """Return one environment for several shims; of two that change the same call the first has the last word."""
    merged = {name: value for one in environments for name, value in one.items()}
    return merged | {"LD_PRELOAD": ":".join(one["LD_PRELOAD"] for one in environments)}


def compiled(folder: Path, name: str, source: str) -> Path:
    """Return a library made of this C."""
    code, library = folder / f"{name}.c", folder / f"{name}.so"
    code.write_text(source)
    command = ["gcc", "-Wall", "-Werror", "-O1", "-shared", "-fPIC", "-o", str(library), str(code), "-ldl"]
    subprocess.run(command, check=True)
    return library
