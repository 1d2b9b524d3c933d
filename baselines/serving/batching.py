"""Requests that wait are answered together, by one thread."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

from baselines.serving.problems import Problem

T = TypeVar("T")
Work = Callable[[Sequence[Any]], Sequence[Any]]
"""Answers some questions, in their order; it raises if one of them cannot be answered."""


class Answer(NamedTuple):
    """The answer to a question.

    Attributes:
        value: What the work returned for it.
        waited: Seconds until the work began.
        batch: Number of questions that were answered together.
    """

    value: Any
    waited: float
    batch: int


@dataclass(eq=False)
class _Job:
    key: Hashable
    work: Work
    question: Any
    answer: asyncio.Future[Answer]
    asked: float


class Batcher:
    """A queue of questions, and the thread that answers them in batches.

    Args:
        max_batch: Largest number of questions that are answered together.
        max_wait: Seconds that a question waits for others if the thread is idle.
        queue: Largest number of waiting questions.
        deadline: Seconds within which a question is answered.
        observe: Called with the size of each batch.
    """

    def __init__(
        self,
        *,
        max_batch: int,
        max_wait: float,
        queue: int,
        deadline: float,
        observe: Callable[[int], object] = lambda size: None,
    ) -> None:
        self._max_batch, self._max_wait, self._deadline = max_batch, max_wait, deadline
        self._observe = observe
        self._jobs: asyncio.Queue[_Job] = asyncio.Queue(queue)
        self._thread = ThreadPoolExecutor(max_workers=1)
        self._loop: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to answer; called within the event loop."""
        self._loop = asyncio.create_task(self._answer())

    async def stop(self) -> None:
        """Stop answering, after the batch at work."""
        if self._loop is not None:
            self._loop.cancel()
        await asyncio.to_thread(self._thread.shutdown)

    @property
    def is_running(self) -> bool:
        """Whether questions are answered."""
        return self._loop is not None and not self._loop.done()

    @property
    def waiting(self) -> int:
        """Number of waiting questions."""
        return self._jobs.qsize()

    async def ask(self, key: Hashable, work: Work, question: Any) -> Answer:
        """Answer a question, together with others that wait.

        Args:
            key: Questions with equal keys are answered by one call.
            work: Answers questions with this key.
            question: The question.

        Raises:
            Problem: 429 if too many wait, 504 after the deadline, 503 if nobody answers.
            Exception: What the work raised for this question alone.
        """
        if not self.is_running:
            raise Problem(503, "the server is starting or stopping: ask again later")
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        try:
            self._jobs.put_nowait(_Job(key, work, question, answer, time.monotonic()))
        except asyncio.QueueFull as error:
            raise Problem(
                429,
                f"expected at most {self._jobs.maxsize} waiting requests, got one more: ask again "
                "later",
                {"Retry-After": "1"},
            ) from error
        try:
            async with asyncio.timeout(self._deadline):
                return await answer
        except TimeoutError as error:
            raise Problem(
                504, f"expected an answer within {self._deadline:g} s, got none: ask again later"
            ) from error

    async def _answer(self) -> None:
        while True:
            groups: dict[Hashable, list[_Job]] = {}
            for job in await self._waiting_jobs():
                groups.setdefault(job.key, []).append(job)
            for jobs in groups.values():
                try:
                    await self._answer_together([job for job in jobs if not job.answer.done()])
                except Exception as error:  # a fault of ours, which must not stop all others
                    fault = RuntimeError(f"a batch was not answered: {error}")
                    for job in jobs:
                        if not job.answer.done():
                            job.answer.set_exception(fault)

    async def _waiting_jobs(self) -> list[_Job]:
        """At least one job, as many as wait or come within the time to wait."""
        jobs = [await self._jobs.get()]
        try:
            async with asyncio.timeout(self._max_wait):
                while len(jobs) < self._max_batch:
                    jobs.append(await self._jobs.get())
        except TimeoutError:
            pass
        return jobs

    async def _answer_together(self, jobs: Sequence[_Job]) -> None:
        if not jobs:
            return
        began = time.monotonic()
        questions = [job.question for job in jobs]
        loop = asyncio.get_running_loop()
        values = await loop.run_in_executor(self._thread, _answers, jobs[0].work, questions)
        self._observe(len(jobs))
        for job, value in zip(jobs, values, strict=True):
            if job.answer.done():  # the deadline passed
                continue
            if isinstance(value, Exception):
                job.answer.set_exception(value)
            else:
                job.answer.set_result(Answer(value, began - job.asked, len(jobs)))


def guarded(work: Callable[..., T], *args: Any) -> T:
    """Call a function in a thread of its own.

    Raises:
        RuntimeError: Instead of the panic of a native extension, which is no ``Exception`` and so
            would end the server.
    """
    try:
        return work(*args)
    except Exception:
        raise
    except BaseException as panic:
        raise RuntimeError(f"{type(panic).__name__}: {panic}") from panic


def _answers(work: Work, questions: Sequence[Any]) -> list[Any]:
    """The answer to each question, or what was raised for it alone.

    A batch in which a question is bad is split until that one is alone.
    """
    try:
        return list(guarded(work, questions))
    except Exception as error:
        if len(questions) == 1:
            return [error]
        half = len(questions) // 2
        return [*_answers(work, questions[:half]), *_answers(work, questions[half:])]
