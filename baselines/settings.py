"""Settings of a comparison, and what its report says of them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

import torch

from baselines.arms import Arm
from baselines.backbones.registry import BackboneConfigs
from baselines.data.dataset import Dataset, Split
from baselines.data.interactions import Ties
from baselines.evaluation import EvaluationConfig
from baselines.fusion import FusionConfig
from baselines.parallel import processes
from baselines.schemes import Scheme
from baselines.teachers.config import TeacherConfig
from baselines.teachers.fit import teacher_training
from baselines.teachers.mass import MassConfig
from baselines.training import TrainingConfig
from semid.build import IdsConfig
from semid.ids import SemanticIds


@dataclass(frozen=True, kw_only=True)
class CompareConfig:
    """Settings of a comparison.

    Attributes:
        data: A folder in the plain layout, or ``synthetic``.
        out: Folder of the results. The same command goes on where it was stopped.
        split: Protocol; ``auto`` is leave-one-out, or the given windows where there are some.
        ties: Order of one user's events at one time.
        ids: Where the semantic ids come from of arms that name no scheme. Here and in ``schemes``,
            ``cf_embeddings: teacher`` stands for the item vectors of this comparison's teacher of
            the first seed.
        schemes: Further ID schemes by name, to compare beside each other.
        arms: What is compared, ``backbone[@scheme]:objective[:alpha][:KEY=VALUE ...]``; the first
            is the baseline.
        seeds: Each arm, and the teacher, is trained once with each.
        masked: Whether softmaxes run over the tokens that may follow a prefix (MSL's mask) or over
            the vocabulary, in arms that do not say so themselves.
        tau: Temperature of the generator's softmax in the loss, likewise.
        temperature: Divides the teacher's scores before its softmax. ``auto`` takes, for each
            seed's teacher, the one that fits the validation targets best.
        mass: What the teacher's token distributions are made from.
        mass_cache: Folder of token distributions, to share them between comparisons; None for one
            below ``out``.
        teacher: Which teacher, in which shape.
        teacher_training: How the teacher is trained.
        teachers: Folder of trained teachers, to share them between comparisons; None for one below
            ``out``.
        backbones: Shapes of the backbones.
        training: How every arm is trained.
        evaluation: How everything is ranked.
        fusion: Which arms are also decoded with their teacher; may change on a folder that is
            finished, since nothing is trained for it.
        resamples: Bootstrap resamples of the users.

    Raises:
        ValueError: If the temperature is not above 0, there are no resamples, or the name of a
            scheme cannot be that of a folder.
    """

    data: str = "synthetic"
    out: str = "runs/compare"
    split: Split = "auto"
    ties: Ties = "file"
    ids: IdsConfig = field(default_factory=IdsConfig)
    schemes: dict[str, IdsConfig] = field(default_factory=dict)
    arms: tuple[str, ...] = ("tiger:ntp", "tiger:soft_ntp:0.1", "tiger:soft_ce:0.5")
    seeds: tuple[int, ...] = (0, 1, 2)
    masked: bool = True
    tau: float = 1.0
    temperature: float | Literal["auto"] = 1.0
    mass: MassConfig = field(default_factory=MassConfig)
    mass_cache: str | None = None
    teacher: TeacherConfig = field(default_factory=TeacherConfig)
    teacher_training: TrainingConfig = field(default_factory=teacher_training)
    teachers: str | None = None
    backbones: BackboneConfigs = field(default_factory=BackboneConfigs)
    training: TrainingConfig = field(
        default_factory=lambda: TrainingConfig(schedule="cosine", weight_decay=0.05)
    )
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    fusion: FusionConfig = field(default_factory=FusionConfig)
    resamples: int = 1000

    def __post_init__(self) -> None:
        if self.temperature != "auto" and not self.temperature > 0:
            raise ValueError(f"temperature must be above 0 or auto, got {self.temperature}")
        if self.resamples < 1:
            raise ValueError(f"resamples must be at least 1, got {self.resamples}")
        for name in self.schemes:
            if not re.fullmatch(r"\w[\w.-]*", name):
                raise ValueError(
                    f"schemes must have names of letters, digits, '_', '-' and '.', got {name!r}"
                )

    @property
    def arm_parser(self) -> Callable[[str], Arm]:
        """Reads an arm as this comparison's settings complete it."""
        prompt_loss = self.backbones.lm.prompt_loss
        return partial(Arm.parse, masked=self.masked, tau=self.tau, prompt_loss=prompt_loss)

    def parsed_arms(self) -> list[Arm]:
        """Its arms.

        Raises:
            ValueError: If one cannot be read, there is no arm or no seed, or one stands there
                twice.
        """
        arms = list(map(self.arm_parser, self.arms))
        if not arms or not self.seeds:
            raise ValueError("expected at least one arm and one seed; see --arms and --seeds")
        given: dict[str, list[Any]] = {"arm": [a.label for a in arms], "seed": list(self.seeds)}
        for what, values in given.items():
            if len(set(values)) < len(values):
                raise ValueError(f"expected every {what} once, got {values}")
        return arms


def told_settings(
    config: CompareConfig, dataset: Dataset, ids: Mapping[Scheme, SemanticIds]
) -> dict[str, Any]:
    """What a report says of the settings, by name, on these data and ids."""
    evaluation = config.evaluation
    said = [
        (f"{scheme.name}: " if scheme.name else "")
        + f"{its.scheme}, sizes {'x'.join(map(str, its.sizes))}"
        for scheme, its in ids.items()
    ]
    return {
        "data": dataset.name,
        "split": dataset.splits.protocol,
        **dataset.statistics,
        "ids": "; ".join(said),
        "seeds": list(config.seeds),
        "epochs at most": config.training.epochs,
        "valid-token mask in training": config.masked,
        "teacher temperature": config.temperature,
        "candidates": "the whole catalogue",
        "beam": evaluation.beam,
        "renormalize": evaluation.renormalize,
        "ties": evaluation.ties,
        **_fusion_setting(config),
        **_language_setting(config),
        "checkpoint chosen by": f"validation N@10, beam {evaluation.validation_beam}, "
        f"{min(evaluation.validation_targets, dataset.splits.valid.num_targets)} targets",
        "processes": processes().num_processes,
        "threads": torch.get_num_threads(),
    }


def _fusion_setting(config: CompareConfig) -> dict[str, str]:
    fusion, beam = config.fusion, config.evaluation.beam
    if not fusion.arms:
        return {}
    weights = ", ".join(f"{weight:g}" for weight in fusion.weights)
    how = f" by validation N@10, beam {beam}" if len(fusion.weights) > 1 else ""
    return {"generator's weight beside the teacher": weights + how}


def _language_setting(config: CompareConfig) -> dict[str, str]:
    arms = config.parsed_arms()
    if not any(arm.kind.is_language_model for arm in arms):
        return {}
    shape = config.backbones.lm
    said = {"language model": f"{shape.model}, writes {shape.items}"}
    if on_prompts := [arm.label for arm in arms if arm.prompt_loss]:
        said["learns from prompts too"] = ", ".join(on_prompts)
    if any(arm.backbone == "yesno" for arm in arms):
        said["yes or no"] = f"about the teacher's {config.backbones.yesno.candidates} best items"
    return said
