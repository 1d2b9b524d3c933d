"""Codebooks in training: moving averages, restarts, and moments that are forgotten."""

import torch
from torch import Tensor

from semid.tokenizers.codebooks import MovingAverages, forget_moments, restart_unused


def brute_force_average(
    codebook: Tensor, batches: list[tuple[Tensor, Tensor]], decay: float, weight: float
) -> Tensor:
    """Appendix A.1 of van den Oord et al. 2017, code by code."""
    codebook = codebook.clone()
    for code in range(len(codebook)):
        count, total = weight, codebook[code] * weight
        for codes, vectors in batches:
            mine = vectors[codes == code]
            count = decay * count + (1 - decay) * len(mine)
            total = decay * total + (1 - decay) * mine.sum(dim=0)
            if len(mine):
                codebook[code] = total / count
    return codebook


def batches(codes: int = 5, dim: int = 3) -> list[tuple[Tensor, Tensor]]:
    gen = torch.Generator().manual_seed(0)
    return [
        (torch.randint(codes - 1, (12,), generator=gen), torch.randn(12, dim, generator=gen))
        for _ in range(6)
    ]


def test_averages_are_the_definition_and_a_code_without_items_stays() -> None:
    codebook = torch.randn(5, 3, generator=torch.Generator().manual_seed(1))
    moved = codebook.clone()
    averages = MovingAverages([moved], decay=0.8, batch_size=12)
    for codes, vectors in batches():
        averages.update([codes], [vectors])
    torch.testing.assert_close(moved, brute_force_average(codebook, batches(), 0.8, 12 / 5))
    assert moved[4].equal(codebook[4]), "no batch chose it"


def test_a_restarted_code_is_not_drawn_back_to_where_it_was() -> None:
    codebook = torch.tensor([[1000.0], [0.0]])
    averages = MovingAverages([codebook], decay=0.9, batch_size=4)
    for _ in range(50):
        averages.update([torch.tensor([1, 1])], [torch.tensor([[0.0], [0.2]])])
    codebook[0] = 5.0
    averages.restart(0, torch.tensor([0]))
    averages.update([torch.tensor([1])], [torch.tensor([[0.0]])])
    assert codebook[0].item() == 5.0
    averages.update([torch.tensor([0, 0])], [torch.tensor([[4.0], [4.0]])])
    assert 4.0 < codebook[0].item() < 5.0


def test_restart_moves_unused_codes_onto_residuals_and_no_other() -> None:
    latents = torch.tensor([[0.0], [0.1], [5.0]])
    codebook = torch.tensor([[0.0], [900.0], [5.0], [-900.0]])
    moved = restart_unused(latents, [codebook], torch.Generator().manual_seed(0))
    assert moved[0].tolist() == [1, 3]
    assert codebook[[0, 2]].tolist() == [[0.0], [5.0]]
    assert all(code in latents for code in codebook[[1, 3]])


def test_moments_of_moved_rows_are_forgotten_and_those_of_others_kept() -> None:
    parameter = torch.ones(3, 2, requires_grad=True)
    optimizer = torch.optim.AdamW([parameter], lr=0.1, weight_decay=0.0)
    for _ in range(5):
        optimizer.zero_grad()
        parameter.square().sum().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    kept = {name: value.clone() for name, value in optimizer.state[parameter].items()}
    forget_moments(optimizer, parameter, torch.tensor([1]))
    state = optimizer.state[parameter]
    for name in ("exp_avg", "exp_avg_sq"):
        assert state[name][1].tolist() == [0.0, 0.0]
        assert state[name][[0, 2]].equal(kept[name][[0, 2]])
    assert state["step"].equal(kept["step"])
    place = parameter.detach().clone()
    optimizer.zero_grad()
    (parameter[0].sum() * 0.0).backward()
    optimizer.step()
    assert parameter[1].equal(place[1]), "nothing pushes it any more"
    assert not parameter[0].equal(place[0])
