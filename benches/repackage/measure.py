"""Runs commands and keeps the operating system's account of them."""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field

KIB, MIB = 1 << 10, 1 << 20


@dataclass
class Run:
    """One measured run: whole processes with their children, start to end."""

    cpu: float
    wall: float
    # The largest process's resident memory in bytes; None where it cannot be told.
    peak: int | None = None
    # Size of what was written.
    size: int | None = None
    # Of runs through S3: bytes through the process and beside it, requests, seconds of the repackaging alone.
    got: int | None = None
    put: int | None = None
    copied: int | None = None
    requests: int | None = None
    repackaging: float | None = None


@dataclass
class Results:
    """Every run, by section, corpus and candidate; and what is missing, with the reason."""

    runs: dict = field(default_factory=dict)
    missing: dict = field(default_factory=dict)

    def add(self, section, corpus, candidate, run):
        self.runs.setdefault((section, corpus, candidate), []).append(run)

    def values(self, section, corpus, candidate, what):
        values = [getattr(run, what) for run in self.runs.get((section, corpus, candidate), [])]
        return [value for value in values if value is not None]

    def median(self, section, corpus, candidate, what):
        """The median of the runs' `what`; None where there is none."""
        values = self.values(section, corpus, candidate, what)
        return statistics.median(values) if values else None

    def most(self, section, corpus, candidate, what):
        return max(self.values(section, corpus, candidate, what), default=None)

    def ratio(self, section, corpus, candidate, base, what="cpu"):
        """How many times as much `candidate` takes as `base`."""
        over = self.median(section, corpus, candidate, what)
        under = self.median(section, corpus, base, what)
        return over / under if over is not None and under else None


class Failed(Exception):
    """A measured command that did not succeed."""


def say(text):
    print(text, file=sys.stderr, flush=True)


def resident_peak(pid="self"):
    with open(f"/proc/{pid}/status") as status:
        return next(int(line.split()[1]) * KIB for line in status if line.startswith("VmHWM"))


def cpu_of(pid):
    """CPU seconds of another process up to now: all of its threads, also those that ended."""
    return time.clock_gettime((~pid << 3) | 2)


def measured(*commands, **options):
    """Runs commands one after the other as one candidate; raises `Failed` for the first that fails."""
    cpu, wall, peak, told = 0.0, 0.0, 0, None
    for command in commands:
        with tempfile.TemporaryFile("w+") as log:
            begun = time.perf_counter()
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, **options
            )
            _, status, usage = os.wait4(process.pid, 0)
            wall += time.perf_counter() - begun
            process.returncode = os.waitstatus_to_exitcode(status)
            cpu += usage.ru_utime + usage.ru_stime
            peak = max(peak, usage.ru_maxrss * KIB)
            log.seek(0)
            said = log.read()
        if process.returncode != 0:
            raise Failed(f"{' '.join(command)} ended with {process.returncode}: {said[-2000:]}")
        for line in said.splitlines():
            if line.startswith("peak_kib "):
                told = int(line.split()[1]) * KIB
    # A child begins as a copy of this process, so that less than what this one holds cannot be told of it.
    return Run(cpu, wall, told or (peak if peak > resident_peak() else None))
