"""Settings of the commands whose work may be shared by workers of Ray."""

from __future__ import annotations

from dataclasses import dataclass, field

from baselines.cli.model_config import ModelOptions
from baselines.models.config import Empty, Unknown
from semid.checks import require_int, require_text
from semid.config import IdsConfig, RayConfig
from semid.field_types import require_types
from semid.tables import SUFFIXES


@dataclass(frozen=True, kw_only=True)
class BuildConfig:
    """Settings of ``semid build``.

    Attributes:
        data: A folder in the plain layout, ``synthetic``, or a reader ``package.module:function``.
        out: Folder to write the semantic ids to.
        ids: How the IDs are built.
        extends: Folder of IDs written by ``semid build``: its items keep their IDs, and only new
            items get new ones. Name a scheme of your own again with --tokenizer: a folder never
            decides which code is run.
        drop_missing: When extending, remove the items that ``data`` lacks. No other item gets
            their IDs, and they get them again when they come back.
        ray: Workers of Ray that share the items; needs ``ids.fit_items``. ``--ray`` is shorthand
            for its address.
        overwrite: Replace the content of ``out``, even if it holds IDs of another catalogue.
    """

    data: str
    out: str
    ids: IdsConfig = field(default_factory=IdsConfig)
    extends: str | None = None
    drop_missing: bool = False
    ray: RayConfig = field(default_factory=RayConfig)
    overwrite: bool = False

    def __post_init__(self) -> None:
        require_types(self)
        for name in ("data", "out"):
            require_text(name, getattr(self, name))
        if self.drop_missing and self.extends is None:
            raise ValueError(
                "drop_missing removes items of the IDs that are extended: name their folder by "
                "--extends, or leave it out"
            )
        if self.ray.address is not None and self.ids.fit_items is None:
            raise ValueError(
                "ray shares items that are encoded a batch at a time: say on how many of them text "
                "encoder and scheme are fitted, --ids.fit_items 100000, or leave it out"
            )


@dataclass(frozen=True, kw_only=True)
class RecommendConfig(ModelOptions):
    """Settings of ``semid recommend``.

    Attributes:
        histories: A parquet, CSV or JSON-lines file: ``user_id`` and a list ``history``, or
            ``user_id``, ``item_id`` and ``timestamp`` or ``position``.
        user: Recommend only for this user of the file.
        history: Instead of a file, item IDs separated by commas, oldest first.
        k: Length of the lists.
        within: File of the only items that may be recommended: a column ``item_id``, or a text
            file with one ID per line.
        exclude_seen: Exclude items of the history.
        boosts: File with ``item_id`` and ``boost``, which is added to an item's log-probability.
        unknown: How history items that the model does not know are handled.
        empty: How histories without known items are handled.
        prior: How much of the training prior the beam divides out; None as in the model.
        partner_weight: Weight in the beam of the model's teacher or second generator; likewise.
        item_weight: Weight in the beam of the model's own item head; likewise.
        out: A ``.parquet``, ``.csv`` or ``.jsonl`` file to write; None to print. The same command
            resumes where it was stopped.
        batch_size: Histories decoded at a time; determines memory use.
        ray: Workers of Ray that share the users; needs ``out``. ``--ray`` is shorthand for its
            address.
        time_format: Format of dates given as text, such as ``%d/%m/%Y``; None to detect it.
    """

    histories: str | None = None
    user: str | None = None
    history: tuple[str, ...] | None = None
    k: int = 10
    within: str | None = None
    exclude_seen: bool = True
    boosts: str | None = None
    unknown: Unknown = "skip"
    empty: Empty = "refuse"
    prior: float | None = None
    partner_weight: float | None = None
    item_weight: float | None = None
    out: str | None = None
    batch_size: int = 256
    ray: RayConfig = field(default_factory=RayConfig)
    time_format: str | None = None

    def __post_init__(self) -> None:
        require_types(self)
        require_text("model", self.model)
        require_int("k", self.k, 1)
        require_int("batch_size", self.batch_size, 1)
        if (self.histories is None) == (self.history is None):
            raise ValueError("expected either --histories FILE or --history 'id,id'")
        if self.user is not None and self.histories is None:
            raise ValueError("user is one of a file: name it by --histories")
        if self.out is not None and not self.out.endswith(SUFFIXES):
            raise ValueError(f"out must end in {', '.join(SUFFIXES)}, got {self.out!r}")
        if self.ray.address is not None and self.out is None:
            raise ValueError("ray writes a file: name it by --out, or leave ray out")


def require_workers(config: BuildConfig | RecommendConfig) -> None:
    """Refuse workers of Ray where there is no Ray.

    Raises:
        ValueError: As ``semid.ray_pool.require_ray``.
    """
    if config.ray.address is not None:
        from semid.ray_pool import require_ray  # loads pyarrow

        require_ray()
