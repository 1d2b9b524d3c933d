"""Runs of a study at the same time, each in a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_LOOKS_EVERY = 0.2  # seconds
_WAITS_FOR_ITS_END = 30.0  # seconds until an interrupted process is killed


@dataclass(frozen=True, kw_only=True)
class Failure:
    """A run that ended without a result.

    Attributes:
        name: The run.
        line: The last line that it wrote, which says why.
        log: File of all that it wrote.
    """

    name: str
    line: str
    log: Path


@dataclass(kw_only=True)
class _Running:
    """A run at work, and those that wait for its folder."""

    name: str
    rest: Sequence[str]
    slot: int
    log: Path
    process: subprocess.Popen[bytes]


@dataclass(frozen=True, kw_only=True)
class ParallelRuns:
    """Does runs in several processes, until each has ended or failed.

    Attributes:
        number: Runs at the same time. Cores are shared out evenly between them; so are GPUs, if
            there is more than one.
        command: The command line of a run.
        logs: Folder for what each run writes, ``RUN.log``.
        may_begin: Whether a run may begin beside those at work; it waits otherwise. Not asked when
            none is at work.
        report: Called with a line for each run that begins or ends.
    """

    number: int
    command: Callable[[str], Sequence[str]]
    logs: Path
    may_begin: Callable[[str, Sequence[str]], bool]
    report: Callable[[str], None]

    def __call__(self, chains: Sequence[Sequence[str]]) -> list[Failure]:
        """Do the runs.

        Args:
            chains: Names of runs; those of one chain are done one after another.

        Returns:
            The runs that failed, which stop none of the others.

        Raises:
            KeyboardInterrupt: After all processes have been interrupted and have ended.
        """
        self.logs.mkdir(parents=True, exist_ok=True)
        waiting, running = deque(filter(None, chains)), list[_Running]()
        free, failures = list(range(self.number)), list[Failure]()
        try:
            while waiting or running:
                while waiting and free and self._may_begin(waiting[0][0], running):
                    name, *rest = waiting.popleft()
                    running.append(self._begun(name, rest, free.pop(0)))
                    self.report(f"begun: {name}")
                for ended in [one for one in running if one.process.poll() is not None]:
                    running.remove(ended)
                    free.append(ended.slot)
                    if ended.process.returncode:
                        failures.append(_failure(ended))
                        self.report(f"failed: {ended.name}: {failures[-1].line}")
                    else:
                        self.report(f"finished: {ended.name}")
                    if ended.rest:
                        waiting.appendleft(ended.rest)
                time.sleep(_LOOKS_EVERY if running else 0)
        finally:
            _stop([one.process for one in running])
        return failures

    def _may_begin(self, name: str, running: Sequence[_Running]) -> bool:
        return not running or self.may_begin(name, [one.name for one in running])

    def _begun(self, name: str, rest: Sequence[str], slot: int) -> _Running:
        log = self.logs / f"{name}.log"
        with log.open("wb") as file:
            process = subprocess.Popen(
                self.command(name),
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                env={**os.environ, **share_of_machine(slot, self.number)},
                start_new_session=True,  # Ctrl-C reaches it from here alone, and once
            )
        return _Running(name=name, rest=rest, slot=slot, log=log, process=process)


def share_of_machine(slot: int, number: int) -> Mapping[str, str]:
    """Environment variables that give one of several processes its share of cores and GPUs.

    Threads that the environment already limits further stay so.

    Args:
        slot: Number of the process, from 0.
        number: Number of processes.
    """
    import torch

    affinity = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    share = max(1, cores // number)
    found = {}
    for name in ("OMP_NUM_THREADS", "POLARS_MAX_THREADS"):
        given = os.environ.get(name, "")
        found[name] = str(min(share, int(given)) if given.isdecimal() else share)
    if (gpus := torch.cuda.device_count()) > 1:
        visible = os.environ.get("CUDA_VISIBLE_DEVICES") or ",".join(map(str, range(gpus)))
        names = visible.split(",")
        found["CUDA_VISIBLE_DEVICES"] = names[slot % len(names)]
    return found


def _failure(ended: _Running) -> Failure:
    text = ended.log.read_text(encoding="utf-8", errors="replace")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    said = lines[-1].removeprefix("semid: ") if lines else ""
    code = ended.process.returncode
    status = f"killed by signal {-code}" if code < 0 else said or f"exit status {code}"
    return Failure(name=ended.name, line=status, log=ended.log)


def _stop(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    """Interrupt processes, so that they tidy up, and wait until all have ended."""
    for process in processes:
        process.send_signal(signal.SIGINT)
    deadline = time.monotonic() + _WAITS_FOR_ITS_END
    for process in processes:
        try:
            process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
