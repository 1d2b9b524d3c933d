"""What requests and answers look like, for the description in OpenAPI and its checks."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat

from baselines.models.beam_weights import MOST_PRIOR
from baselines.models.config import Empty, Unknown

ItemId = Annotated[str, Field(max_length=1000)] | Annotated[int, Field(ge=-(2**63), le=2**63 - 1)]
UserId = Annotated[str, Field(max_length=1000)]
Weight = Annotated[float, Field(ge=0, le=1)]


class _Body(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")


class Boost(_Body):
    """A value added to the log-probability of an item."""

    item_id: ItemId
    boost: FiniteFloat


class RecommendBody(_Body):
    """A history, and how items are recommended after it."""

    history: list[ItemId] = Field(description="Item ids, oldest first.")
    k: int = Field(10, ge=1, description="Length of the list.")
    within: list[ItemId] | None = Field(None, description="The only items to recommend.")
    exclude_seen: bool = Field(True, description="Whether items of the history are excluded.")
    boosts: list[Boost] = Field(default=[], description="Values added to log-probabilities.")
    unknown: Unknown = Field("skip", description="How unknown items of the history are handled.")
    empty: Empty = Field("refuse", description="How a history without known items is handled.")
    prior: Annotated[float, Field(ge=0, le=MOST_PRIOR)] | None = Field(
        None, description="How much of the training prior is divided out; null as in the model."
    )
    partner_weight: Weight | None = Field(
        None, description="Weight of the second model in the beam, 0 for none; null likewise."
    )
    item_weight: Weight | None = Field(
        None, description="Weight of the model's own item head in the beam; null likewise."
    )
    user: UserId | None = Field(None, description="The user, who always gets the same model.")


class ExplainBody(_Body):
    """An item to explain after a history."""

    history: list[ItemId]
    item: ItemId
    user: UserId | None = None


class SimilarBody(_Body):
    """An item to find similar ones of."""

    item: ItemId
    k: int = Field(10, ge=1)
    user: UserId | None = None


class NewItem(BaseModel):
    """A new item: ``item_id``, and fields of the catalogue, which its codes are made from."""

    model_config = ConfigDict(strict=True, extra="allow")

    item_id: ItemId


class AddBody(_Body):
    """New items."""

    items: list[NewItem] = Field(min_length=1, max_length=10_000)


class RemoveBody(_Body):
    """Items to recommend no more."""

    items: list[ItemId] = Field(min_length=1)


class Item(BaseModel):
    """A recommended or similar item."""

    item_id: str | int
    score: float
    title: str


class FoundItem(BaseModel):
    """An item whose title contains a text."""

    item_id: str | int
    title: str


class Served(BaseModel):
    """A model that answers."""

    arm: str
    model: str = Field(description="Hash of everything that determines its lists.")


class ItemsAnswer(Served):
    """Items, best first."""

    items: list[Item]


class FoundAnswer(Served):
    """Items in catalogue order, those whose titles begin with the text first."""

    items: list[FoundItem]


class RecommendAnswer(ItemsAnswer):
    """Items, best first, and the number of unknown items of the history."""

    unknown: int


class Level(BaseModel):
    """One step of an item's path."""

    code: str
    probability: float
    choices: int
    typical: list[str]
    teacher: float | None


class TeacherView(BaseModel):
    """A teacher's view of an item."""

    label: str
    probability: float
    rank: int


class ExplainAnswer(Served):
    """Why an item has its rank."""

    item_id: str | int
    title: str
    levels: list[Level]
    score: float
    teacher: TeacherView | None


class ArmAnswer(Served):
    """A model that is served."""

    label: str
    items: int = Field(description="Number of items that it can recommend.")
    share: float = Field(description="Share of the requests that name no model.")
    prior: float | None = Field(description="The prior in its beam; null if it has no beam.")
    partner: str | None = Field(description="The second model in its beam; null for none.")
    partner_weight: float | None = Field(description="Its weight; null for none.")
    item_weight: float | None = Field(
        description="Weight of the model's own item head in its beam; null without a head."
    )


class ModelsAnswer(BaseModel):
    """All models that are served."""

    models: list[ArmAnswer]
