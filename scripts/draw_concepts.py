"""Draw the pictures of docs/concepts.md: its teacher and labels are what the packages compute.

Usage:
    python scripts/draw_concepts.py [FOLDER]   (docs/pictures by default)
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from pathlib import Path

import torch

from semid.trie import CodeTrie
from tca.collaborative import CollaborativeTokenizer
from tca.functional import soft_labels

ITEMS = {
    "rose soap": (0, 0),
    "mint soap": (0, 1),
    "lemon soap": (0, 2),
    "rose cream": (1, 0),
    "night cream": (1, 1),
    "comb": (2, 0),
}
"""Titles and codes of the toy catalogue."""

SCORES = (2.0, 1.0, 0.0, 1.5, 0.5, -1.0)
"""What a teacher says of each item after some history."""

TARGET = "mint soap"
ALPHA = 0.5

_HEAD = (
    '<marker id="head" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="8" markerHeight="8" '
    'orient="auto"><path d="M0 0L8 4L0 8z" fill="#8c959f"/></marker>'
)
_STYLE = """
text{font:14px system-ui,sans-serif;fill:#1b1f24}
.small{font-size:12px}.faint{fill:#57606a}.line{stroke:#8c959f;stroke-width:1.5;fill:none}
.box{fill:#fff;stroke:#8c959f;stroke-width:1.5}.strong{stroke:#1f5fbf;stroke-width:3}
.bar{fill:#6ea0e0}.own{fill:#d98324}.middle{text-anchor:middle}.end{text-anchor:end}
@media(prefers-color-scheme:dark){text{fill:#e6edf3}.faint{fill:#9da7b3}
.box{fill:#1c2128}.strong{stroke:#6ea8ff}.bar{fill:#3d6fb4}}
"""


@dataclass(frozen=True)
class Picture:
    """An SVG picture, for light and dark pages.

    Attributes:
        name: Its file, without the ending.
        says: What it shows, for those who cannot see it.
        width: Width in pixels.
        height: Height in pixels.
        parts: Its elements.
    """

    name: str
    says: str
    width: int
    height: int
    parts: list[str]

    def text(self) -> str:
        """The content of the file."""
        head = (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {self.width} {self.height}" '
            f'width="{self.width}" height="{self.height}" role="img" aria-label="{self.says}">'
        )
        return "\n".join([head, f"<style>{_STYLE}</style>", _HEAD, *self.parts, "</svg>", ""])


def word(x: float, y: float, text: str, kind: str = "") -> str:
    """A line of text from ``x``, on the base line ``y``."""
    return f'<text x="{x:g}" y="{y:g}" class="{kind}">{escape(text)}</text>'


def box(x: float, y: float, wide: float, text: str, kind: str = "", *, below: str = "") -> str:
    """A box of one line of text, centred at ``x``, and a smaller line below it."""
    shape = f'<rect x="{x - wide / 2:g}" y="{y - 15:g}" width="{wide:g}" height="30" rx="6" '
    small = word(x, y + 31, below, "small faint middle") if below else ""
    return f'{shape}class="box {kind}"/>{word(x, y + 5, text, "middle")}{small}'


def line(x1: float, y1: float, x2: float, y2: float) -> str:
    """A straight line."""
    return f'<path d="M{x1:g} {y1:g}L{x2:g} {y2:g}" class="line"/>'


def arrow(x1: float, y1: float, x2: float, y2: float) -> str:
    """A straight line with a head at its end."""
    return line(x1, y1, x2, y2).replace("/>", ' marker-end="url(#head)"/>')


def bars(x: float, y: float, shares: list[float], *, own: int) -> Iterator[str]:
    """Bars of at most 100 pixels above the base line ``y``, with their values; one stands out."""
    for number, share in enumerate(shares):
        left = x + 46 * number
        kind = "own" if number == own else "bar"
        top = y - 100 * share
        yield f'<rect x="{left:g}" y="{top:g}" width="34" height="{100 * share:g}" class="{kind}"/>'
        yield word(left + 17, top - 5, f"{share:.2f}", "small middle")
        yield word(left + 17, y + 16, f"{number}", "small faint middle")


_LEAVES = (70, 190, 310, 450, 570, 710)
_NODES = (190, 510, 710)
_WIDE = 780


def tree(
    top: list[str], leaves: list[str], *, strong: set[tuple[int, ...]] | None = None
) -> Iterator[str]:
    """The toy catalogue's trie, with a line below each first code and below each item.

    Args:
        top: Line of each first code.
        leaves: Line of each item.
        strong: Prefixes drawn with a strong border.
    """
    strong = strong or set()
    for x in _NODES:
        yield line(_WIDE / 2, 45, x, 90)
    for x, codes in zip(_LEAVES, ITEMS.values(), strict=True):
        yield line(_NODES[codes[0]], 140, x, 195)
    yield box(_WIDE / 2, 30, 90, "start")
    for code, x in enumerate(_NODES):
        kind = "strong" if (code,) in strong else ""
        yield box(x, 105, 46, f"{code}", kind, below=top[code])
    for x, (title, codes), says in zip(_LEAVES, ITEMS.items(), leaves, strict=True):
        kind = "strong" if codes in strong else ""
        yield box(x, 210, 46, f"{codes[1]}", kind)
        yield word(x, 245, title, "small middle")
        yield word(x, 262, says, "small faint middle")


def distributions() -> tuple[torch.Tensor, torch.Tensor]:
    """The teacher's next-token distributions on the target's path, and the soft labels."""
    codes = torch.tensor(list(ITEMS.values()))
    trie = CodeTrie.from_paths(codes, 3)
    target = torch.tensor([list(ITEMS).index(TARGET)])
    p = CollaborativeTokenizer(trie)(torch.tensor([SCORES]), target)
    return p[0], soft_labels(codes[target], p, ALPHA)[0]


def picture_of_ids() -> Picture:
    """From a title to two codes."""
    parts = [
        box(80, 70, 140, "rose soap"),
        box(260, 70, 130, "(0.9, 0.2, …)"),
        box(450, 70, 110, "code 0"),
        box(450, 150, 150, "(0.1, -0.1, …)"),
        box(650, 150, 110, "code 0"),
        arrow(150, 70, 195, 70),
        arrow(325, 70, 395, 70),
        arrow(450, 85, 450, 135),
        arrow(525, 150, 595, 150),
        word(80, 108, "text of the item", "small faint middle"),
        word(260, 108, "its embedding", "small faint middle"),
        word(450, 42, "nearest of the first centres", "small faint middle"),
        word(450, 188, "what the centre leaves over", "small faint middle"),
        word(650, 188, "nearest of the second centres", "small faint middle"),
        word(650, 75, "semantic ID: 0, 0", "middle"),
    ]
    says = "The embedding of a title is replaced by its nearest centre, code by code"
    return Picture("ids", says, _WIDE, 205, parts)


def picture_of_the_trie() -> Picture:
    """All paths of the toy catalogue."""
    told = ["soaps", "creams", "combs"]
    parts = list(tree(told, [f"{a}, {b}" for a, b in ITEMS.values()]))
    return Picture("trie", "The codes of six items as a tree", _WIDE, 275, parts)


def picture_of_the_tokenizer() -> Picture:
    """Item scores, and what they say of each code on the target's path."""
    shares = torch.tensor(SCORES).softmax(dim=0).tolist()
    p, _ = distributions()
    below = [f"{value:.2f}" for value in p[0].tolist()]
    parts = list(tree(below, [f"{share:.2f}" for share in shares], strong={(0,), (0, 1)}))
    parts.append(
        word(
            _WIDE / 2,
            295,
            f"the target is {TARGET}; after code 0 its three items share "
            + ", ".join(f"{value:.2f}" for value in p[1].tolist()),
            "small middle",
        )
    )
    says = "The teacher's item probabilities, summed over the items below each first code"
    return Picture("tokenizer", says, _WIDE, 310, parts)


def picture_of_labels() -> Picture:
    """Target, teacher and their mixture, at the second code."""
    p, labels = distributions()
    slot = ITEMS[TARGET][1]
    hard = [1.0 if code == slot else 0.0 for code in range(3)]
    parts = []
    for x, name, values in (
        (40, f"{1 - ALPHA:g} x target", hard),
        (300, f"{ALPHA:g} x teacher", p[1].tolist()),
        (560, "label", labels[1].tolist()),
    ):
        parts += [*bars(x, 145, values, own=slot), word(x + 63, 190, name, "middle")]
    parts += [word(245, 110, "+", "middle"), word(505, 110, "=", "middle")]
    says = "The label of a code is a mixture of the target and the teacher's distribution"
    return Picture("labels", says, _WIDE, 205, parts)


def picture_of_decoding() -> Picture:
    """A beam of two: the two best prefixes are kept at each level."""
    first, second = [0.5, 0.4, 0.1], [0.5, 0.3, 0.2, 0.9, 0.1, 1.0]
    paths = [first[codes[0]] * share for codes, share in zip(ITEMS.values(), second, strict=True)]
    best = sorted(range(len(paths)), key=lambda number: -paths[number])[:2]
    kept: set[tuple[int, ...]] = {(0,), (1,), *(list(ITEMS.values())[number] for number in best)}
    told = [f"{share:.2f}" for share in first]
    below = [
        f"{told[codes[0]]} x {share:.1f} = {path:.2f}" if codes[0] < 2 else "not extended"
        for codes, share, path in zip(ITEMS.values(), second, paths, strict=True)
    ]
    parts = list(tree(told, below, strong=kept))
    return Picture("decoding", "A beam of two keeps the two best prefixes", _WIDE, 275, parts)


def picture_of_all() -> Picture:
    """What the packages do, from texts to lists."""
    parts = [
        box(85, 60, 140, "texts of items", below="semid"),
        box(270, 60, 150, "codes, one trie", below="semid"),
        box(480, 60, 180, "generator of codes", "strong"),
        word(480, 35, "baselines", "small faint middle"),
        box(690, 60, 150, "lists of items", below="semid"),
        box(270, 150, 150, "histories", below="baselines"),
        box(480, 150, 180, "teacher's item scores", below="tca: next-code labels"),
        arrow(155, 60, 195, 60),
        arrow(345, 60, 390, 60),
        arrow(570, 60, 615, 60),
        arrow(345, 150, 390, 150),
        arrow(345, 140, 410, 77),
        arrow(480, 135, 480, 77),
    ]
    says = "Texts become codes; a generator learns from histories and a teacher to write them"
    return Picture("overview", says, _WIDE, 200, parts)


PICTURES = (
    picture_of_all,
    picture_of_ids,
    picture_of_the_trie,
    picture_of_the_tokenizer,
    picture_of_labels,
    picture_of_decoding,
)


def main(folder: Path) -> None:
    """Write all pictures."""
    folder.mkdir(parents=True, exist_ok=True)
    for draw in PICTURES:
        picture = draw()
        (folder / f"{picture.name}.svg").write_text(picture.text(), encoding="utf-8")


if __name__ == "__main__":
    here = Path(__file__).parents[1] / "docs" / "pictures"
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else here)
