"""Time that runs faster: a C library put before libc with LD_PRELOAD, so that a real daemon lives hours in minutes.

Clocks go `factor` times as fast, and what waits for a time waits so much shorter. Work takes as long as it takes: to
the process a disk that needs 1 ms needs `factor` ms.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Final

from tests.support.shims import compiled

_SOURCE: Final = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <time.h>

/* $SHIM_FAST holds the factor, and the times (ns) of the three clocks from which on it counts. */
static long long factor = 0, monotonic, boottime, realtime;
static void told(void) {
    const char *form = "%lld %lld %lld %lld";
    if (!factor && sscanf(getenv("SHIM_FAST"), form, &factor, &monotonic, &boottime, &realtime) != 4) abort();
}
static int known(clockid_t clock) {
    return clock == CLOCK_MONOTONIC || clock == CLOCK_BOOTTIME || clock == CLOCK_REALTIME;
}
static long long since(clockid_t clock) {
    return clock == CLOCK_MONOTONIC ? monotonic : clock == CLOCK_BOOTTIME ? boottime : realtime;
}
static long long ns(const struct timespec *time) { return time->tv_sec * 1000000000LL + time->tv_nsec; }
static void put(struct timespec *time, long long value) {
    time->tv_sec = value / 1000000000LL; time->tv_nsec = value % 1000000000LL;
}
/* The true time at which the clock shows this. */
static struct timespec truly(clockid_t clock, const struct timespec *shown) {
    struct timespec time; long long start;
    told();
    start = since(clock);
    put(&time, start + (ns(shown) - start) / factor);
    return time;
}
int clock_gettime(clockid_t clock, struct timespec *time) {
    static int (*real)(clockid_t, struct timespec *);
    int result; long long start;
    told();
    if (!real) real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    result = real(clock, time);
    if (result == 0 && known(clock)) {
        start = since(clock);
        put(time, start + (ns(time) - start) * factor);
    }
    return result;
}
int epoll_wait(int descriptor, struct epoll_event *events, int most, int timeout_ms) {
    int (*real)(int, struct epoll_event *, int, int) =
        (int (*)(int, struct epoll_event *, int, int))dlsym(RTLD_NEXT, "epoll_wait");
    told();
    return real(descriptor, events, most, timeout_ms > 0 ? (timeout_ms + factor - 1) / factor : timeout_ms);
}
int clock_nanosleep(clockid_t clock, int flags, const struct timespec *asked, struct timespec *left) {
    int (*real)(clockid_t, int, const struct timespec *, struct timespec *) =
        (int (*)(clockid_t, int, const struct timespec *, struct timespec *))dlsym(RTLD_NEXT, "clock_nanosleep");
    struct timespec time = *asked;
    told();
    if (flags & TIMER_ABSTIME) { if (known(clock)) time = truly(clock, asked); }
    else put(&time, ns(asked) / factor);
    return real(clock, flags, &time, left);
}
int sem_clockwait(sem_t *semaphore, clockid_t clock, const struct timespec *until) {
    int (*real)(sem_t *, clockid_t, const struct timespec *) =
        (int (*)(sem_t *, clockid_t, const struct timespec *))dlsym(RTLD_NEXT, "sem_clockwait");
    struct timespec time = truly(clock, until);
    return real(semaphore, clock, &time);
}
/* CPython's conditions are those of the monotonic clock. */
int pthread_cond_timedwait(pthread_cond_t *condition, pthread_mutex_t *mutex, const struct timespec *until) {
    typedef int (*Wait)(pthread_cond_t *, pthread_mutex_t *, const struct timespec *);
    Wait real = (Wait)dlvsym(RTLD_NEXT, "pthread_cond_timedwait", "GLIBC_2.3.2");
    struct timespec time = truly(CLOCK_MONOTONIC, until);
    if (!real) real = (Wait)dlsym(RTLD_NEXT, "pthread_cond_timedwait");
    return real(condition, mutex, &time);
}
"""


class FastClock:
    """Clocks that run `factor` times as fast from now on, the same for every process that is given `env`."""

    def __init__(self, folder: Path, factor: int) -> None:
        self._factor = factor
        self._monotonic_ns, self.began_ns = time.monotonic_ns(), time.time_ns()
        boottime_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        self.env = {
            "LD_PRELOAD": str(compiled(folder, "fast", _SOURCE)),
            "SHIM_FAST": f"{factor} {self._monotonic_ns} {boottime_ns} {self.began_ns}",
        }

    def secs(self) -> float:
        """Return the seconds that have passed on these clocks."""
        return (time.monotonic_ns() - self._monotonic_ns) * self._factor / 1e9

    def wait(self, until: float) -> None:
        """Sleep until so many seconds have passed on these clocks."""
        time.sleep(max(0.0, (until - self.secs()) / self._factor))
