"""Settings that cannot be meant are refused when a tokenizer, or a config of one, is made."""

from __future__ import annotations

import math
from typing import Any

import pytest

from semid import IdsConfig
from semid.tokenizers import BUILT_IN
from semid.tokenizers.base import make_tokenizer

SENSELESS: list[tuple[str, dict[str, Any], str]] = [
    ("rqkmeans", {"seed": "x"}, "seed must be a whole number from 0 to 4294967295, got 'x'"),
    ("rqkmeans", {"seed": None}, "seed must be a whole number"),
    ("rqkmeans", {"seed": -1}, "seed must be a whole number"),
    ("rqkmeans", {"iterations": 1.5}, "iterations must be a whole number of at least 1, got 1.5"),
    ("rqkmeans", {"iterations": 0}, "iterations must be a whole number"),
    ("rqkmeans", {"beam": "x"}, "beam must be a whole number"),
    ("rqkmeans", {"beam": 0}, "beam must be a whole number"),
    ("rqkmeans", {"balanced": 1}, "balanced must be true or false, got 1"),
    ("rqkmeans", {"balanced": True, "beam": 2}, "beam must be 1 if balanced"),
    ("rqkmeans", {"start": "kmean++"}, "Did you mean kmeans\\+\\+"),
    ("hierarchical", {"iterations": -3}, "iterations must be a whole number"),
    ("hierarchical", {"seed": True}, "seed must be a whole number"),
    ("pq", {"iterations": None}, "iterations must be a whole number"),
    ("opq", {"rotations": 2.0}, "rotations must be a whole number"),
    ("rvq", {"epochs": -1}, "epochs must be a whole number of at least 0, got -1"),
    ("rvq", {"ema_decay": 1.0}, "ema_decay must be a number of at least 0 and below 1, got 1.0"),
    ("rqvae", {"epochs": 1.5}, "epochs must be a whole number of at least 0, got 1.5"),
    ("rqvae", {"latent_dim": 0}, "latent_dim must be a whole number of at least 1, got 0"),
    ("rqvae", {"seed": True}, "seed must be a whole number from 0 to 4294967295, got True"),
    ("rqvae", {"hidden_dims": [8, 0]}, "hidden_dims\\[1\\] must be a whole number"),
    ("rqvae", {"hidden_dims": 8}, "hidden_dims must be a list of whole numbers, got 8"),
    ("rqvae", {"beta": -0.1}, "beta must be a number of at least 0, got -0.1"),
    ("rqvae", {"batch_size": 0}, "batch_size must be a whole number of at least 1"),
    ("rqvae", {"learning_rate": 0.0}, "learning_rate must be a number above 0"),
    ("rqvae", {"learning_rate": math.inf}, "learning_rate must be a number above 0"),
    ("rqvae", {"restart_every": 0}, "restart_every must be a whole number"),
    ("rqvae", {"kmeans_iterations": "3"}, "kmeans_iterations must be a whole number"),
    ("rqvae", {"codebook_update": "adam"}, "codebook_update must be one of gradient, ema"),
    ("rqvae", {"start": "zeros"}, "start must be one of kmeans, kmeans\\+\\+, balanced"),
    ("rqvae", {"estimator": "ste"}, "estimator must be one of straight_through, rotation, gumbel"),
    ("rqvae", {"temperatures": [1.0, 0.0]}, "temperatures\\[1\\] must be a number above 0"),
    ("rqvae", {"temperatures": 1.0}, "temperatures must be two numbers"),
    ("letter", {"cf_weight": -1.0}, "cf_weight must be a number of at least 0, got -1.0"),
    ("letter", {"quant_loss_weight": math.nan}, "quant_loss_weight must be a number of at least 0"),
    ("letter", {"diversity_weight": "1"}, "diversity_weight must be a number"),
    ("letter", {"num_clusters": 0}, "num_clusters must be a whole number"),
    ("letter", {"sinkhorn_iterations": 0}, "sinkhorn_iterations must be a whole number"),
    ("random", {"seed": 1.0}, "seed must be a whole number"),
    ("atomic", {"seed": 1}, "expected settings of atomic, got {'seed': 1}"),
    ("rqkmeans", {"depth": 3}, "expected settings of rqkmeans, got {'depth': 3}"),
]


@pytest.mark.parametrize(("scheme", "settings", "message"), SENSELESS)
def test_a_setting_that_cannot_be_meant_is_refused_when_a_config_is_made(
    scheme: str, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        make_tokenizer(scheme, settings)
    with pytest.raises(ValueError, match=message):
        IdsConfig(scheme=scheme, settings=settings)


@pytest.mark.parametrize("sizes", [(), (4, 0), (2**31,), (2**70,), (4, True), (4, 2.0), 8, "88"])
@pytest.mark.parametrize("scheme", sorted(set(BUILT_IN) - {"atomic"}))
def test_sizes_are_whole_numbers_that_a_token_id_can_hold(scheme: str, sizes: Any) -> None:
    with pytest.raises(ValueError, match=r"^codebook_sizes"):
        make_tokenizer(scheme, {"codebook_sizes": sizes})
    with pytest.raises(ValueError, match=r"^codebook_sizes"):
        IdsConfig(scheme=scheme, codebook_sizes=sizes)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"embeddings": ""}, "embeddings must be a text that is not empty, got ''"),
        ({"scheme": " "}, "scheme must be a text that is not empty"),
        ({"cf_embeddings": ""}, "cf_embeddings must be a text"),
        ({"template": ""}, "template must be a text"),
        ({"collisions": "hope"}, "expected a collision strategy out of"),
        ({"collisions": "extra_levels"}, "Did you mean extra_level"),
        ({"collisions": "extra_level+extra_level"}, "each collision strategy once"),
        ({"settings": {"codebook_sizes": [4]}}, "codebook_sizes is a separate option"),
    ],
)
def test_where_ids_come_from_must_be_meant_too(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        IdsConfig(**settings)


@pytest.mark.parametrize("scheme", sorted(BUILT_IN))
def test_the_defaults_of_every_scheme_pass(scheme: str) -> None:
    assert make_tokenizer(scheme, {}).scheme == scheme
