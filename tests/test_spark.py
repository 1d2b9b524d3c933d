"""The example of Spark: its function on frames, and the whole of it where there is Spark."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import polars as pl
import pytest
from tiny_models import fit_model, histories

from baselines.models.recommender import Recommender
from baselines.models.rows import RecommendRows, Request

EXAMPLE = Path(__file__).parents[1] / "examples" / "spark_recommend.py"
ROWS = histories()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("spark")
    fit_model(folder)
    return folder / "model"


@pytest.fixture(scope="module")
def expected(model: Path) -> pl.DataFrame:
    lists = RecommendRows(Recommender.from_pretrained(model), Request(k=4))
    table = pl.from_arrow(lists(ROWS.to_arrow()))
    assert isinstance(table, pl.DataFrame)
    return table


def example() -> ModuleType:
    spec = importlib.util.spec_from_file_location("spark_recommend", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def require_lists(found: pl.DataFrame, expected: pl.DataFrame) -> None:
    assert found.drop("score").rows() == expected.drop("score").rows()
    assert found["score"].to_list() == pytest.approx(expected["score"].to_list(), abs=1e-5)


def test_frames_of_histories_become_frames_of_lists(model: Path, expected: pl.DataFrame) -> None:
    pytest.importorskip("pandas", reason="pandas is not installed")
    frames = [ROWS[:7].to_pandas(), ROWS[7:].to_pandas()]
    found = list(example().recommended(iter(frames), str(model), 4))
    assert len(found) == 2
    require_lists(pl.concat(map(pl.from_pandas, found)), expected)


@pytest.mark.slow
def test_spark_gives_the_lists_of_one_process(
    model: Path, expected: pl.DataFrame, tmp_path: Path
) -> None:
    pytest.importorskip("pyspark", reason="pyspark is not installed")
    if shutil.which("java") is None:
        pytest.skip("there is no Java, which Spark needs")
    ROWS.write_parquet(tmp_path / "users.parquet")
    command = [sys.executable, str(EXAMPLE), "--model", str(model), "--k", "4"]
    command += ["--histories", str(tmp_path / "users.parquet"), "--out", str(tmp_path / "lists")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    found = pl.read_parquet(tmp_path / "lists" / "*.parquet")
    require_lists(found.sort("user_id", "rank"), expected)
