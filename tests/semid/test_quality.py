import math
from collections import Counter

import pytest
import torch

from semid.ids import SemanticIds
from semid.quality import id_quality


def test_card_is_the_definition() -> None:
    codes = torch.randint(5, (40, 3), generator=torch.Generator().manual_seed(0))
    ids = SemanticIds.of(list(range(40)), codes, (5, 5, 8), scheme="test")
    card = id_quality(ids)
    paths = [tuple(path) for path in codes.tolist()]
    assert card["items"] == 40
    assert card["distinct"] == len(set(paths))
    for level, size in enumerate((5, 5, 8)):
        counts = Counter(path[level] for path in paths)
        prefixes = {path[: level + 1] for path in paths}
        children = Counter(prefix[:level] for prefix in prefixes)
        entropy = -sum(n / 40 * math.log(n / 40) for n in counts.values())
        assert card["levels"][level] == {
            "size": size,
            "used": len(counts),
            "utilisation": len(counts) / size,
            "perplexity": pytest.approx(math.exp(entropy)),
            "prefixes": len(prefixes),
            "max_children": max(children.values()),
        }


def test_collapse_is_seen() -> None:
    ids = SemanticIds.of(["a", "b"], torch.zeros(2, 1, dtype=torch.int64), (256,), scheme="test")
    card = id_quality(ids)
    assert card["largest_group"] == card["colliding_items"] == 2
    assert card["levels"][0]["perplexity"] == 1.0
    assert card["levels"][0]["used"] == 1
