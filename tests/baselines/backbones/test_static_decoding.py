"""A search with static shapes compiles into one graph, and low precision stays within the trie."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from worlds import histories

from baselines.backbones.causal import CausalBackbone
from baselines.backbones.config import CausalConfig, TigerConfig
from baselines.backbones.tiger import TigerBackbone
from baselines.contracts.backbone import Backbone, BuildContext
from baselines.nn.config import EncoderConfig
from semid.decoding import BeamResult, beam_search
from semid.prefixes import Prefixes

SIZES = (3, 3, 2)
PASTS = histories([3, 1, 4, 1], [7], [2, 9], [11, 10, 5])


@pytest.fixture(params=["tiger", "causal over items", "causal over codes"])
def backbone(request: pytest.FixtureRequest, tiny_codes: Tensor) -> Backbone:
    made: Backbone
    if request.param == "tiger":
        shape = TigerConfig(num_layers=1, dim=16, num_heads=2, head_dim=8, ff_dim=24)
        made = TigerBackbone(shape, BuildContext(tiny_codes, SIZES, seed=0))
    else:
        config = CausalConfig(
            input="item" if request.param.endswith("items") else "code",
            encoder=EncoderConfig(dim=8, num_layers=1, num_heads=2, ff_dim=16),
        )
        made = CausalBackbone(config, BuildContext(tiny_codes, SIZES, seed=0))
    return made.eval()


@torch.no_grad()
def test_a_search_with_static_shapes_is_one_graph(backbone: Backbone) -> None:
    def search(start: Prefixes) -> BeamResult:
        return beam_search(start, backbone.trie, beam=5, static_shapes=True)

    start = backbone.start(PASTS)
    usual = search(start)  # the first search prepares the trie's tables
    sizes = []

    def count(graph: torch.fx.GraphModule, _: list[Tensor]) -> torch.fx.GraphModule:
        sizes.append(sum(node.op.startswith("call") for node in graph.graph.nodes))
        return graph

    torch._dynamo.reset()
    compiled = torch.compile(search, backend=count)(start)
    assert sizes[0] > 100
    assert sum(sizes[1:]) == 0, "nothing is left after the check of the logits at the end"
    assert torch.equal(compiled.leaves, usual.leaves)
    torch.testing.assert_close(compiled.scores, usual.scores)


@torch.no_grad()
def test_bfloat16_returns_items_with_about_the_same_scores(backbone: Backbone) -> None:
    full = beam_search(backbone.start(PASTS), backbone.trie, beam=12)
    with torch.autocast("cpu", torch.bfloat16):
        low = beam_search(backbone.start(PASTS), backbone.trie, beam=12)
    assert low.scores.dtype == torch.float32
    for row in range(4):
        exact = dict(zip(full.leaves[row].tolist(), full.scores[row].tolist(), strict=True))
        for leaf, score in zip(low.leaves[row].tolist(), low.scores[row].tolist(), strict=True):
            assert score == pytest.approx(exact[leaf], abs=0.05)
