"""Figures of a data set: the right curves, in files that are valid and always the same."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import polars as pl
import pytest

from baselines.data.dataset import Dataset
from baselines.data.describing import figures
from baselines.data.describing.description import popularity_figures
from baselines.data.describing.figures import (
    PERIODS,
    length_counts,
    lorenz,
    over_time,
    ranked,
    write_figures,
)
from baselines.data.loading import load_dataset
from baselines.data.synthetic import synthetic_dataset

DAY = 86_400


def texts_of(svg: Path) -> list[str]:
    """What is written in a figure; fails if it is not XML."""
    words = ElementTree.parse(svg).iter("{http://www.w3.org/2000/svg}text")
    return ["".join(word.itertext()) for word in words]


def shop(folder: Path, first: int) -> Dataset:
    """Two users with four events each, a day apart, from a time on."""
    folder.mkdir()
    pl.DataFrame({"item_id": [1, 2, 3, 4]}).write_parquet(folder / "items.parquet")
    events = [(user, item, first + item * DAY) for user in (7, 8) for item in (1, 2, 3, 4)]
    schema = ["user_id", "item_id", "timestamp"]
    pl.DataFrame(events, schema=schema, orient="row").write_parquet(folder / "interactions.parquet")
    return load_dataset(folder)


def test_histories_are_counted_by_length() -> None:
    values, counts = length_counts(np.array([5, 3, 5, 9]))
    assert values.tolist() == [3, 5, 9]
    assert counts.tolist() == [1, 2, 1]


def test_items_are_ranked_by_their_events() -> None:
    ranks, counts = ranked(np.array([0, 2, 7, 2]))
    assert ranks.tolist() == [1, 2, 3]
    assert counts.tolist() == [7, 2, 2]


def test_the_lorenz_curve_is_that_of_the_gini_coefficient() -> None:
    items, share = lorenz(np.array([3, 0, 1]))
    assert items.tolist() == [0, 1 / 3, 2 / 3, 1]
    assert share.tolist() == [0, 0, 0.25, 1]
    events = np.random.default_rng(0).geometric(0.01, size=500)
    items, share = lorenz(events)
    assert 1 - 2 * np.trapezoid(share, items) == pytest.approx(popularity_figures(events)["gini"])


def test_events_are_counted_in_equal_periods() -> None:
    times = np.array([0, 1, PERIODS - 1, PERIODS], dtype=np.int64)
    bounds, counts = over_time(times)
    assert bounds.tolist() == list(range(PERIODS + 1))
    assert counts[[0, 1, PERIODS - 1]].tolist() == [1, 1, 2]
    assert counts.sum() == 4
    bounds, counts = over_time(np.array([5, 5]))
    assert (bounds.tolist(), counts.tolist()) == ([5, 6], [2])


def test_they_are_drawn_as_svg_and_png_and_always_the_same(tmp_path: Path) -> None:
    dataset = shop(tmp_path / "shop", first=1_400_000_000)
    drawn = write_figures(dataset, tmp_path / "a")
    names = ["history_lengths", "popularity", "lorenz", "events_over_time"]
    assert [path.name for path in drawn.values()] == [f"{name}.svg" for name in names]
    for title, path in drawn.items():
        assert title in texts_of(path)
        assert path.with_suffix(".png").read_bytes().startswith(b"\x89PNG\r\n")
    assert "date" in texts_of(drawn["Events over time"])
    assert any("2014" in word for word in texts_of(drawn["Events over time"]))
    again = write_figures(dataset, tmp_path / "b")
    for first, second in zip(drawn.values(), again.values(), strict=True):
        assert first.read_bytes() == second.read_bytes()


def test_times_that_are_no_dates_stay_numbers(tmp_path: Path) -> None:
    drawn = write_figures(shop(tmp_path / "shop", first=0), tmp_path / "a")
    assert "time" in texts_of(drawn["Events over time"])


def test_windows_have_only_the_long_tail(tmp_path: Path) -> None:
    (tmp_path / "shop").mkdir()
    pl.DataFrame({"item_id": [1, 2, 3]}).write_parquet(tmp_path / "shop" / "items.parquet")
    windows = pl.DataFrame({"history": [[1], [1, 2]], "item_id": [2, 3]})
    for part in ("train", "valid", "test"):
        windows.write_parquet(tmp_path / "shop" / f"{part}.parquet")
    drawn = write_figures(load_dataset(tmp_path / "shop"), tmp_path / "a")
    assert [path.name for path in drawn.values()] == ["popularity.svg", "lorenz.svg"]


def test_without_matplotlib_one_line_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(figures, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"package matplotlib.*pip install.*\[report\]") as error:
        write_figures(synthetic_dataset(num_users=40, num_items=32), tmp_path / "a")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "a").exists()
