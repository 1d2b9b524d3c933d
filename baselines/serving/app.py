"""The API: recommend, explain, similar items, changes of the items, health and metrics."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, Header, Query, Request, Response

from baselines.models.beam_weights import BeamWeights, beam_weights, partner_label
from baselines.models.recommender import Recommendation
from baselines.models.requests import ItemId
from baselines.serving import wire
from baselines.serving.arms import Arm, Arms, change
from baselines.serving.batching import Answer, Batcher
from baselines.serving.config import ServeConfig
from baselines.serving.gate import Gate
from baselines.serving.log import RequestLog
from baselines.serving.metrics import CONTENT_TYPE, Metrics
from baselines.serving.problems import Problem, add_handlers, documented
from baselines.serving.served import Options, ServedModel
from semid import __version__
from semid.checks import require_int

_PAGE = Path(__file__).with_name("page.html")
_OF_THE_PAGE = {  # nothing from outside
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; img-src data:; "
    "script-src 'unsafe-inline'; connect-src 'self'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
}

ArmName = Annotated[
    str | None, Header(alias="X-Semid-Arm", description="Name of the model to ask.")
]


class Service:
    """What the routes of one server share.

    Args:
        config: Its settings.
        metrics: Its counters.

    Raises:
        FileNotFoundError: If a folder has no complete model.
        ValueError: As ``ServedModel.load``.
    """

    def __init__(self, config: ServeConfig, metrics: Metrics) -> None:
        self.config, self.metrics = config, metrics
        self.arms = Arms(config, metrics)
        self.ranking = Batcher(
            max_batch=config.max_batch,
            max_wait=config.max_wait_ms / 1e3,
            queue=config.queue,
            deadline=config.deadline,
            observe=metrics.batches.observe,
        )
        self.aside = Batcher(max_batch=1, max_wait=0, queue=config.queue, deadline=config.deadline)
        metrics.waiting.set_function(lambda: self.ranking.waiting + self.aside.waiting)

    @property
    def is_ready(self) -> bool:
        """Whether requests are answered."""
        return self.ranking.is_running and self.aside.is_running

    @asynccontextmanager
    async def running(self, _: FastAPI) -> AsyncIterator[None]:
        """Answer requests, and watch the folders, within the body."""
        self.ranking.start()
        self.aside.start()
        every = self.config.watch
        watching = [asyncio.create_task(arm.watch(every)) for arm in self.arms if every]
        try:
            yield
        finally:
            for task in watching:
                task.cancel()
            await self.ranking.stop()
            await self.aside.stop()

    def require_short(self, history: Sequence[ItemId]) -> None:
        """Refuse a history that is longer than allowed.

        Raises:
            ValueError: If it is.
        """
        if len(history) > self.config.max_history:
            raise ValueError(
                f"expected a history of at most {self.config.max_history} items, got "
                f"{len(history)}: send the last ones"
            )


async def _service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


Shared = Annotated[Service, Depends(_service)]
_REFUSED = documented(400, 401, 404, 408, 413, 415, 422, 429, 500, 503, 504)
api = APIRouter(prefix="/v1", responses=_REFUSED)
health = APIRouter(prefix="/health")


def make_app(config: ServeConfig, token: str | None = None) -> FastAPI:
    """The API with its models loaded.

    Args:
        config: The settings.
        token: The token that requests must bear; None for none.

    Raises:
        FileNotFoundError: If a folder has no complete model.
        OSError: If the log cannot be opened.
        ValueError: As ``ServedModel.load``.
    """
    metrics = Metrics()
    service = Service(config, metrics)
    log = RequestLog(config.log, metrics.unlogged.inc)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with service.running(app):
            yield
        log.close()

    app = FastAPI(
        title="semid", version=__version__, lifespan=lifespan, docs_url=None, redoc_url=None
    )
    app.state.service = service
    add_handlers(app)
    app.add_middleware(Gate, config=config, token=token, metrics=metrics, log=log)
    app.include_router(api)
    app.include_router(health)
    app.add_api_route("/metrics", _metrics, include_in_schema=False)
    app.add_api_route("/", _page, include_in_schema=False)
    return app


async def _metrics(service: Shared) -> Response:
    return Response(service.metrics.text(), media_type=CONTENT_TYPE)


async def _page() -> Response:
    return Response(_PAGE.read_bytes(), headers=_OF_THE_PAGE, media_type="text/html")


@health.get("/live")
async def live() -> dict[str, str]:
    """Whether the server runs."""
    return {"status": "ok"}


@health.get("/ready", responses=documented(503))
async def ready(service: Shared) -> dict[str, str]:
    """Whether requests are answered."""
    if not service.is_ready:
        raise Problem(503, "the server is starting or stopping")
    return {"status": "ok"}


@api.get("/models", response_model=wire.ModelsAnswer)
async def models(service: Shared) -> Response:
    """The models that are served."""
    return _described(service.arms)


@api.post("/recommend", response_model=wire.RecommendAnswer)
async def recommend(
    body: wire.RecommendBody, request: Request, service: Shared, named: ArmName = None
) -> Response:
    """The best items after a history."""
    require_int("k", body.k, 1, service.config.max_k)
    service.require_short(body.history)
    arm, model = _chosen(service, named, body, request)
    same = (model, body.model_dump_json(exclude={"history", "user"}), _kinds(body.history))
    work = partial(model.recommend, _options(body))
    found = _noted(await service.ranking.ask(same, work, body.history), request)
    items = request.state.line["items"] = _items(found.items)
    return _json({**_by(arm, model), "items": items, "unknown": found.unknown})


@api.post("/explain", response_model=wire.ExplainAnswer)
async def explain(
    body: wire.ExplainBody, request: Request, service: Shared, named: ArmName = None
) -> Response:
    """Why an item has its rank after a history, level by level of its path."""
    service.require_short(body.history)
    arm, model = _chosen(service, named, body, request)
    asked = partial(model.recommender.explain, body.history, body.item)
    found = _noted(await service.ranking.ask(asked, lambda _: [asked()], None), request)
    return _json({**_by(arm, model), **dataclasses.asdict(found)})


@api.post("/similar", response_model=wire.ItemsAnswer)
async def similar(
    body: wire.SimilarBody, request: Request, service: Shared, named: ArmName = None
) -> Response:
    """The items with the nearest vectors."""
    require_int("k", body.k, 1, service.config.max_k)
    arm, model = _chosen(service, named, body, request)
    asked = partial(model.recommender.similar, body.item, body.k)
    found = _noted(await service.aside.ask(asked, lambda _: [asked()], None), request)
    return _json({**_by(arm, model), "items": _items(found)})


@api.get("/items", response_model=wire.FoundAnswer)
async def find_items(
    service: Shared,
    text: Annotated[str, Query(max_length=1000)],
    limit: Annotated[int, Query(ge=1, le=10_000)] = 20,
    named: ArmName = None,
) -> Response:
    """The items whose titles contain a text."""
    arm = service.arms.choose(named, None)
    model = arm.model
    asked = partial(model.find, text, limit)
    found = await service.aside.ask(asked, lambda _: [asked()], None)
    return _json({**_by(arm, model), "items": found.value})


@api.post("/items/add", response_model=wire.ModelsAnswer)
async def add_items(
    body: wire.AddBody, request: Request, service: Shared, named: ArmName = None
) -> Response:
    """Code new items from their texts, until the model is reloaded."""
    request.state.line["body"] = body.model_dump(mode="json")
    arms = service.arms.named(named)
    rows = [item.model_dump() for item in body.items]
    await change(arms, lambda model: model.with_items(rows))
    return _described(arms)


@api.post("/items/remove", response_model=wire.ModelsAnswer)
async def remove_items(
    body: wire.RemoveBody, request: Request, service: Shared, named: ArmName = None
) -> Response:
    """Stop recommending some items, until the model is reloaded."""
    request.state.line["body"] = body.model_dump(mode="json")
    arms = service.arms.named(named)
    await change(arms, lambda model: model.without_items(body.items))
    return _described(arms)


@api.post("/reload", response_model=wire.ModelsAnswer, responses=documented(409))
async def reload(service: Shared, named: ArmName = None) -> Response:
    """Take over the models that the folders hold now."""
    arms = service.arms.named(named)
    for arm in arms:
        await arm.reload()
    return _described(arms)


def _chosen(
    service: Service,
    named: str | None,
    body: wire.RecommendBody | wire.ExplainBody | wire.SimilarBody,
    request: Request,
) -> tuple[Arm, ServedModel]:
    """The arm that answers, and its model at this moment; both are noted for the log."""
    arm = service.arms.choose(named, body.user)
    model = arm.model
    request.state.line.update(
        **_by(arm, model),
        share=arm.share if named is None else None,
        body=body.model_dump(mode="json", exclude_defaults=True),
    )
    return arm, model


def _noted(answer: Answer, request: Request) -> Any:
    """The value of an answer; how it was found is noted for the log."""
    request.state.line.update(waited_ms=round(1e3 * answer.waited, 3), batch=answer.batch)
    return answer.value


def _kinds(history: Sequence[ItemId]) -> frozenset[type]:
    """The types of a history's ids: a batch has one, since a mixture is refused."""
    return frozenset(map(type, history))


def _options(body: wire.RecommendBody) -> Options:
    boosts = {each.item_id: each.boost for each in body.boosts}
    if len(boosts) < len(body.boosts):
        raise ValueError("expected one boost for each item, got more for some")
    return Options(
        k=body.k,
        within=None if body.within is None else tuple(body.within),
        exclude_seen=body.exclude_seen,
        boosts=boosts or None,
        unknown=body.unknown,
        empty=body.empty,
        beam=BeamWeights(
            prior=body.prior, partner_weight=body.partner_weight, item_weight=body.item_weight
        ),
    )


def _by(arm: Arm, model: ServedModel) -> dict[str, str]:
    return {"arm": arm.name, "model": model.hash}


def _items(found: Iterable[Recommendation]) -> list[dict[str, Any]]:
    return [item._asdict() for item in found]


def _described(arms: Iterable[Arm]) -> Response:
    served = [
        {
            **_by(arm, arm.model),
            "label": arm.model.recommender.model.backbone.label,
            "items": arm.model.num_items,
            "share": arm.share,
            "partner": partner_label(arm.model.recommender.model),
            **dataclasses.asdict(beam_weights(arm.model.recommender.model)),
        }
        for arm in arms
    ]
    return _json({"models": served})


def _json(content: Any) -> Response:
    """A response in ASCII, since titles and ids may be text that is no Unicode."""
    return Response(json.dumps(content, allow_nan=False), media_type="application/json")
