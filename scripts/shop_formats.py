"""One small shop, written in every format that is read."""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pyarrow as pa

DAY = 1_400_000_000
EVENTS = pl.DataFrame(
    {
        "user_id": [1, 1, 1, 2, 2, 2, 3, 3, 3, 3],
        "item_id": [11, 12, 13, 12, 11, 14, 14, 13, 12, 11],
        "rating": [5.0, 4.0, 3.0, 5.0, 5.0, 1.0, 2.0, 4.0, 4.0, 5.0],
        "timestamp": [DAY + step for step in (1, 2, 3, 1, 2, 3, 1, 2, 3, 4)],
    }
)
ITEMS = pl.DataFrame(
    {
        "item_id": [11, 12, 13, 14],
        "title": ["Red lipstick", "Crème, rich", 'A "good" soap', "Brush"],
        "categories": [["Beauty", "Lips"], ["Beauty"], ["Beauty", "Bath"], ["Beauty", "Tools"]],
    }
)

Writer = Callable[[Path], Path]
WRITERS: dict[str, Writer] = {}


def writes(name: str) -> Callable[[Writer], Writer]:
    """Add a writer of a format to ``WRITERS``."""

    def add(writer: Writer) -> Writer:
        WRITERS[name] = writer
        return writer

    return add


def delimited(path: Path, table: pl.DataFrame, sep: str = ",", encoding: str = "utf-8") -> Path:
    """Write a table as CSV, or with another delimiter or encoding."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding=encoding, newline="") as file:
        rows = csv.writer(file, delimiter=sep)
        rows.writerow(table.columns)
        rows.writerows(table.iter_rows())
    return path


def lines(path: Path, rows: list[str], encoding: str = "utf-8") -> Path:
    """Write lines of text."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(rows) + "\n", encoding=encoding)
    return path


def objects(path: Path, table: pl.DataFrame) -> Path:
    """Write a table as JSON lines."""
    return lines(path, [json.dumps(row, ensure_ascii=False) for row in table.to_dicts()])


def packed(path: Path, codec: str) -> None:
    """Replace a file by a compressed one."""
    data = path.read_bytes()
    if codec == "gz":
        path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(data))
    else:
        path.with_name(f"{path.name}.zst").write_bytes(pa.compress(data, "zstd", asbytes=True))
    path.unlink()


@writes("parquet")
def parquet(folder: Path) -> Path:
    """Parquet files."""
    folder.mkdir(parents=True)
    EVENTS.write_parquet(folder / "events.parquet")
    ITEMS.write_parquet(folder / "catalog.parquet")
    return folder


@writes("spark")
def spark(folder: Path) -> Path:
    """Folders of parts, with the users in their names."""
    for user, events in EVENTS.partition_by("user_id", as_dict=True).items():
        part = folder / "events.parquet" / f"user_id={user[0]}" / "part-0000.snappy.parquet"
        part.parent.mkdir(parents=True)
        events.drop("user_id").write_parquet(part)
    (folder / "events.parquet" / "_SUCCESS").touch()
    ITEMS.write_parquet(folder / "catalog.parquet")
    return folder


def _csv(folder: Path, sep: str, encoding: str, ending: str) -> Path:
    delimited(folder / f"ratings.{ending}", EVENTS, sep, encoding)
    delimited(folder / f"products.{ending}", ITEMS, sep, encoding)
    return folder


for _name, _sep, _encoding, _ending in (
    ("csv", ",", "utf-8", "csv"),
    ("tsv", "\t", "utf-8-sig", "tsv"),
    ("semicolon", ";", "latin-1", "csv"),
    ("utf16", ",", "utf-16", "txt"),
):
    WRITERS[_name] = lambda folder, sep=_sep, encoding=_encoding, ending=_ending: _csv(
        folder, sep, encoding, ending
    )


@writes("jsonl")
def jsonl(folder: Path) -> Path:
    """JSON lines."""
    objects(folder / "events.jsonl", EVENTS)
    objects(folder / "catalog.jsonl", ITEMS)
    return folder


@writes("csv.gz")
def csv_gzip(folder: Path) -> Path:
    """CSV, compressed by gzip."""
    for path in sorted(_csv(folder, ",", "utf-8", "csv").iterdir()):
        packed(path, "gz")
    return folder


@writes("jsonl.zst")
def jsonl_zstd(folder: Path) -> Path:
    """JSON lines, compressed by zstd."""
    for path in sorted(jsonl(folder).iterdir()):
        packed(path, "zst")
    return folder


def amazon(events: pl.DataFrame, names: dict[str, str], path: Path) -> Path:
    """Reviews with a publisher's names."""
    return objects(path, events.rename(names).with_columns(reviewText=pl.lit("ok")))


@writes("amazon-2014")
def amazon_2014(folder: Path) -> Path:
    """Amazon 2014: metadata as Python dicts."""
    names = {"user_id": "reviewerID", "item_id": "asin", "rating": "overall"}
    names["timestamp"] = "unixReviewTime"
    amazon(EVENTS, names, folder / "reviews_Beauty_5.json")
    rows = [
        repr({"asin": row["item_id"], "title": row["title"], "categories": [row["categories"]]})
        for row in ITEMS.to_dicts()
    ]
    packed(lines(folder / "meta_Beauty.json", rows), "gz")
    packed(folder / "reviews_Beauty_5.json", "gz")
    return folder


@writes("amazon-2018")
def amazon_2018(folder: Path) -> Path:
    """Amazon 2018."""
    names = {"user_id": "reviewerID", "item_id": "asin", "rating": "overall"}
    names["timestamp"] = "unixReviewTime"
    amazon(EVENTS, names, folder / "All_Beauty_5.json")
    objects(folder / "meta_All_Beauty.json", ITEMS.rename({"item_id": "asin"}))
    return folder


@writes("amazon-2023")
def amazon_2023(folder: Path) -> Path:
    """Amazon 2023: ids are those of the parent."""
    events = EVENTS.with_columns(asin=pl.lit("variant"))
    amazon(events, {"item_id": "parent_asin"}, folder / "All_Beauty.jsonl")
    objects(folder / "meta_All_Beauty.jsonl", ITEMS.rename({"item_id": "parent_asin"}))
    return folder


@writes("steam")
def steam(folder: Path) -> Path:
    """Steam: Python dicts."""
    names = {"user_id": "username", "item_id": "product_id"}
    events = EVENTS.rename(names).to_dicts()
    events[0]["user_id"] = "only some reviews have one"
    lines(folder / "steam_reviews.json", [repr(row) for row in events])
    items = ITEMS.rename({"item_id": "id", "title": "app_name"}).to_dicts()
    lines(folder / "steam_games.json", [repr(row) for row in items])
    return folder


@writes("recbole")
def recbole(folder: Path) -> Path:
    """RecBole's atomic files."""
    names = {"user_id": "user_id:token", "item_id": "item_id:token", "rating": "rating:float"}
    events = EVENTS.rename({**names, "timestamp": "timestamp:float"})
    delimited(folder / "shop.inter", events, "\t")
    rows = ["item_id:token\titem_name:token\tcategories:token_seq"]
    rows += [
        f"{row['item_id']}\t{row['title']}\t{' '.join(row['categories'])}"
        for row in ITEMS.to_dicts()
    ]
    lines(folder / "shop.item", rows)
    return folder


@writes("movielens")
def movielens(folder: Path) -> Path:
    """MovieLens: double colons, Latin-1, no header."""
    lines(folder / "ratings.dat", ["::".join(map(str, row)) for row in EVENTS.rows()])
    movies = [f"{item}::{title}::{'|'.join(groups)}" for item, title, groups in ITEMS.iter_rows()]
    return lines(folder / "movies.dat", movies, "latin-1").parent


@writes("datasets")
def datasets(folder: Path) -> Path:
    """What ``DatasetDict.save_to_disk`` of Hugging Face's ``datasets`` writes."""
    for name, table in (("train", EVENTS), ("items", ITEMS)):
        (folder / name).mkdir(parents=True)
        file = "data-00000-of-00001.arrow"
        arrow = table.to_arrow(compat_level=pl.CompatLevel.oldest())
        path = str(folder / name / file)
        with pa.OSFile(path, "wb") as sink, pa.ipc.new_stream(sink, arrow.schema) as stream:
            stream.write_table(arrow)
        state = {"_data_files": [{"filename": file}], "_fingerprint": "0", "_split": name}
        (folder / name / "state.json").write_text(json.dumps(state))
    (folder / "dataset_dict.json").write_text(json.dumps({"splits": ["train", "items"]}))
    return folder


def load() -> tuple[pl.DataFrame, pl.DataFrame]:
    """Items and events, as a reader of one's own returns them."""
    return ITEMS, EVENTS


def sequences(folder: Path) -> Path:
    """S3-Rec's files of the same shop; without times and ratings."""
    histories = EVENTS.group_by("user_id", maintain_order=True).agg("item_id")
    rows = [" ".join(map(str, [user, *items])) for user, items in histories.iter_rows()]
    lines(folder / "Shop.txt", rows)
    attributes = {str(row["item_id"]): [row["item_id"] % 3, 7] for row in ITEMS.to_dicts()}
    (folder / "Shop_item2attributes.json").write_text(json.dumps(attributes))
    return folder


def letter(folder: Path) -> Path:
    """The files of LETTER and LC-Rec of the same shop; without times and ratings."""
    histories = EVENTS.group_by("user_id", maintain_order=True).agg("item_id")
    rows = {str(user): items for user, items in histories.iter_rows()}
    lines(folder / "Shop.inter.json", [json.dumps(rows)])
    texts = {str(row.pop("item_id")): row for row in ITEMS.to_dicts()}
    lines(folder / "Shop.item.json", [json.dumps(texts)])
    lines(folder / "Shop.index.json", [json.dumps({item: ["<a_1>"] for item in texts})])
    return folder


def pairs(folder: Path) -> Path:
    """SASRec's file of the same shop: a line for each event; without times, ratings and texts."""
    rows = [f"{user} {item}" for user, item, *_ in EVENTS.iter_rows()]
    return lines(folder / "Shop.txt", rows).parent


WITHOUT_TIMES: dict[str, Writer] = {"sequences": sequences, "pairs": pairs, "letter": letter}
"""Writers of what is known of the shop without its times and ratings."""
