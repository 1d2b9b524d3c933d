"""Prepare a log with its items: clean titles, and leave out items as well as events."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import polars as pl

from baselines.data.preparing.coded import CodedEvents
from baselines.data.preparing.config import PreparationConfig
from baselines.data.preparing.events import EXAMPLES, LeftOut, leave_out
from baselines.data.texts import TAG, has_value, plain_text
from semid.columns import ENTITY, as_ids, readable


@dataclass(frozen=True, kw_only=True, eq=False)
class Prepared:
    """A prepared log.

    Attributes:
        items: The remaining rows of the table of items, in their order.
        log: The remaining events, in their order.
        left_out: What each step left out, if anything.
        changed_titles: Number of titles that were cleaned or cut.
        title_examples: The first ``EXAMPLES`` of these, columns ``item_id``, ``before``, ``after``.
    """

    items: pl.DataFrame
    log: CodedEvents
    left_out: list[LeftOut]
    changed_titles: int
    title_examples: pl.DataFrame

    @cached_property
    def events(self) -> pl.DataFrame:
        """The remaining events with their ids."""
        return self.log.decoded()


def prepare(
    items: pl.DataFrame,
    events: pl.DataFrame | CodedEvents,
    config: PreparationConfig,
    *,
    time_format: str | None = None,
) -> Prepared:
    """Prepare a log and the table of its items.

    In this order: titles are cleaned and cut, items without text are left out with their events,
    `prepare_events`, and items that lost all their events are left out. Items that never had one
    stay, as for a cold start, unless ``item_core`` is above 1. Events of items that the table lacks
    stay; reading the data set counts them.

    Args:
        items: One row per item: ``item_id``, and the columns that the settings name.
        events: As in `prepare_events`, or coded already.
        config: The settings.
        time_format: Likewise.

    Raises:
        ValueError: If a column is missing or cannot be read, or a step leaves nothing.
    """
    titled = ("title",) if config.clean_titles or config.max_title_chars else ()
    for name in ("item_id", *titled, *config.text_fields):
        if name not in items.columns:
            raise ValueError(
                f"items need a column {name}, got {', '.join(items.columns)}; give a table of "
                "items that has it, or leave out what asks for it"
            )
    cleaned = items
    if titled:
        title = plain_text(items["title"])
        if title is None:
            raise ValueError(f"titles must be text, got {items['title'].dtype}")
        title = clean_titles(title) if config.clean_titles else title
        cleaned = items.with_columns(cut_titles(title, config.max_title_chars).alias("title"))
    titles = _changed_titles(items, cleaned) if titled else _NO_TITLES
    report = []
    items, log = cleaned, CodedEvents.of(events)
    if config.text_fields:
        items, log, left_out = _with_text(items, log, config.text_fields)
        report += left_out
    kept, steps = leave_out(log, config, time_format=time_format)
    report += steps
    used = is_among(items["item_id"], kept.present("item_id"))
    if config.item_core == 1:
        used |= ~is_among(items["item_id"], log.present("item_id"))
    if not used.all():
        report.append(_items_left_out("items without an event", items.filter(~used)))
        items = items.filter(used)
    return Prepared(
        items=items,
        log=kept,
        left_out=report,
        changed_titles=titles.height,
        title_examples=titles.head(EXAMPLES),
    )


def clean_titles(titles: pl.Series) -> pl.Series:
    """Texts without HTML tags, entities decoded once, runs of blanks as one; NFC.

    Tags are removed before entities are decoded, so ``&lt;b&gt;`` becomes ``<b>``.
    """
    untagged = titles.str.replace_all(TAG, " ")
    escaped = untagged.filter(untagged.str.contains(ENTITY.pattern)).unique()
    decoded = pl.Series([readable(text) for text in escaped.to_list()], dtype=pl.String)
    whole: pl.Series = untagged.replace(escaped, decoded)
    cleaned: pl.Series = (
        whole.str.normalize("NFC").str.replace_all(r"[\s\p{Cc}]+", " ").str.strip_chars()
    )
    return cleaned


def cut_titles(titles: pl.Series, most: int | None) -> pl.Series:
    """Texts of at most so many characters, cut after a whole word if one fits."""
    if most is None:
        return titles
    head, after = titles.str.slice(0, most), titles.str.slice(most, 1)
    is_whole = after.str.contains(r"^\s?$")
    words = head.str.replace(r"\s+\S*$", "")
    cut: pl.Series = head.zip_with((is_whole | (words == "")).fill_null(True), words)
    return cut.str.strip_chars_end()


_NO_TITLES = pl.DataFrame(schema={"item_id": pl.String, "before": pl.String, "after": pl.String})


def _changed_titles(before: pl.DataFrame, after: pl.DataFrame) -> pl.DataFrame:
    table = pl.DataFrame(
        {
            "item_id": before["item_id"],
            "before": plain_text(before["title"]),
            "after": after["title"],
        }
    )
    return table.filter(pl.col("before").ne_missing(pl.col("after")))


def _with_text(
    items: pl.DataFrame, events: CodedEvents, fields: tuple[str, ...]
) -> tuple[pl.DataFrame, CodedEvents, list[LeftOut]]:
    """Items with text in one of the columns, and the events without those of other items."""
    present = pl.DataFrame([has_value(items[name]) for name in dict.fromkeys(fields)])
    has_text = present.select(pl.any_horizontal(pl.all())).to_series()
    kept = items.filter(has_text)
    if not kept.height:
        raise ValueError(f"none of {items.height} items has text in {', '.join(fields)}")
    if kept.height == items.height:
        return items, events, []
    gone = items.filter(~has_text)
    left = events.where("item_id", ~is_among(events.ids["item_id"], gone["item_id"]))
    step = _items_left_out(f"items without {' or '.join(fields)}", gone)
    users = events.table["user_id"].n_unique() - left.table["user_id"].n_unique()
    return kept, left, [replace(step, events=len(events) - len(left), users=users)]


def is_among(ids: pl.Series, known: pl.Series) -> pl.Series:
    """Whether each id is known, with ids read as `semid.columns.as_ids` does."""
    ids, known = as_ids(ids), as_ids(known)
    if ids.dtype != known.dtype:
        ids, known = ids.cast(pl.String), known.cast(pl.String)
    return ids.is_in(known.unique().implode()).fill_null(False)


def _items_left_out(step: str, gone: pl.DataFrame) -> LeftOut:
    return LeftOut(step=step, events=0, users=0, items=gone.height, examples=gone.head(EXAMPLES))
