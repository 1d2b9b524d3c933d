"""The models that are served side by side, and how they are replaced."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import AsyncExitStack
from itertools import accumulate

from baselines.models.hub import model_folder
from baselines.serving.batching import guarded
from baselines.serving.config import ArmSource, ServeConfig
from baselines.serving.metrics import Metrics
from baselines.serving.problems import Problem
from baselines.serving.served import ServedModel, fingerprint

logger = logging.getLogger(__name__)


class Arm:
    """A name under which a model is served.

    Whoever answers a request takes ``model`` once, so that a new model loses no request.

    Attributes:
        changing: Held while the model is replaced.

    Args:
        source: Its name, folder and share.
        config: How the folder is loaded.
        metrics: Where models and reloads are counted.

    Raises:
        FileNotFoundError: If there is no complete model.
        ValueError: As ``ServedModel.load``.
    """

    def __init__(self, source: ArmSource, config: ServeConfig, metrics: Metrics) -> None:
        self.name, self.share = source.name, source.share
        self._folder = model_folder(source.folder).absolute()
        self._config, self._metrics = config, metrics
        self.changing = asyncio.Lock()
        self._refused: str | None = None
        self.model = self._load()
        metrics.models.labels(self.name, self.model.hash).set(1)

    def _load(self) -> ServedModel:
        named = self._config
        return ServedModel.load(
            self._folder, backbone=named.backbone, teacher=named.teacher, base=named.base
        )

    async def reload(self) -> None:
        """Take over the model that the folder holds now; items added or removed are forgotten.

        Raises:
            Problem: 409 if it is refused; the present model goes on.
        """
        async with self.changing:
            found = await asyncio.to_thread(fingerprint, self._folder)
            try:
                model = await asyncio.to_thread(guarded, self._load)
            except Exception as error:  # whatever is wrong with it, the present one goes on
                self._refused = found
                self._metrics.reloads.labels(self.name, "refused").inc()
                raise Problem(409, f"{self.name} goes on with the model it has: {error}") from error
            self.take(model)
            self._metrics.reloads.labels(self.name, "taken").inc()
        logger.info("%s serves model %s from %s", self.name, self.model.hash, self._folder)

    async def watch(self, every: float) -> None:
        """Reload whenever the folder has changed, and has stayed the same for one interval."""
        before = self.model.fingerprint
        while True:
            await asyncio.sleep(every)
            found = await asyncio.to_thread(fingerprint, self._folder)
            if found == before and found not in (self.model.fingerprint, self._refused):
                try:
                    await self.reload()
                except Problem as problem:
                    logger.warning("%s", problem.detail)
            before = found

    def take(self, model: ServedModel) -> None:
        """Answer the next requests with another model; ``changing`` is held."""
        self._metrics.models.labels(self.name, self.model.hash).set(0)
        self._metrics.models.labels(self.name, model.hash).set(1)
        self.model = model


async def change(arms: Sequence[Arm], how: Callable[[ServedModel], ServedModel]) -> None:
    """Replace the models of some arms by changed ones, all of them or none.

    Raises:
        ValueError: If one of them cannot be changed so.
    """
    async with AsyncExitStack() as held:
        for arm in arms:
            await held.enter_async_context(arm.changing)
        changed = [await asyncio.to_thread(guarded, how, arm.model) for arm in arms]
        for arm, model in zip(arms, changed, strict=True):
            arm.take(model)


class Arms:
    """All arms, by name."""

    def __init__(self, config: ServeConfig, metrics: Metrics) -> None:
        arms = [Arm(source, config, metrics) for source in config.arms]
        self._by_name: dict[str, Arm] = {arm.name: arm for arm in arms}

    def __iter__(self) -> Iterator[Arm]:
        return iter(self._by_name.values())

    def choose(self, name: str | None, user: str | None) -> Arm:
        """The arm that answers a request.

        Args:
            name: Its name, if the request names it.
            user: The user, who always gets the same arm; None for a random one.

        Raises:
            Problem: 404 if there is no such arm.
        """
        if name is not None:
            if name not in self._by_name:
                known = ", ".join(self._by_name)
                raise Problem(404, f"expected a model out of {known}, got {name!r}")
            return self._by_name[name]
        point = random.random() if user is None else _point_of(user)
        arms = list(self)
        for arm, end in zip(arms, accumulate(arm.share for arm in arms), strict=True):
            if point < end:
                return arm
        return max(arms, key=lambda arm: arm.share)  # shares add up to 1 but for rounding

    def named(self, name: str | None) -> list[Arm]:
        """The arm of this name; all arms if none is named.

        Raises:
            Problem: 404 if there is no such arm.
        """
        return list(self) if name is None else [self.choose(name, None)]


def _point_of(user: str) -> float:
    """A number in [0, 1) that depends on the user alone."""
    digest = hashlib.sha256(user.encode(errors="surrogatepass")).digest()
    return int.from_bytes(digest[:8], "big") / 2**64
