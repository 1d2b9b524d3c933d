"""Arms: their names, read and written."""

from __future__ import annotations

import pytest
import torch
from building import build
from torch import Tensor

from baselines.backbones.causal import CausalBackbone
from baselines.backbones.config import CausalConfig, TigerConfig
from baselines.backbones.tiger import TigerBackbone
from baselines.experiments.arms import Arm
from baselines.models.config import BACKBONES, BackboneConfigs
from baselines.models.registry import backbone_class, backbone_settings
from baselines.nn.config import EncoderConfig
from tca.config import LETTER_TAU, AlphaPolicy, ObjectiveConfig


def parse(text: str, *, masked: bool = True, tau: float = 1.0) -> Arm:
    return Arm.parse(text, masked=masked, tau=tau)


@pytest.mark.parametrize(
    ("text", "objective", "label", "folder"),
    [
        ("tiger:ntp", ObjectiveConfig(), "TIGER ntp", "tiger-ntp"),
        (
            "tiger:soft_ce:0.5",
            ObjectiveConfig(name="soft_ce", alpha=0.5),
            "TIGER+TCA soft_ce alpha=0.5",
            "tiger-soft_ce-0.5",
        ),
        (
            "causal:soft_ntp:.10",
            ObjectiveConfig(name="soft_ntp", alpha=0.1),
            "Causal+TCA soft_ntp alpha=0.1",
            "causal-soft_ntp-0.1",
        ),
        (
            "causal:soft_ce:0",
            ObjectiveConfig(name="soft_ce"),
            "Causal+TCA soft_ce alpha=0",
            "causal-soft_ce-0",
        ),
        ("causal:msl", ObjectiveConfig(name="msl"), "Causal msl", "causal-msl"),
        ("tiger:ntp:tau=1", ObjectiveConfig(), "TIGER ntp", "tiger-ntp"),
    ],
)
def test_an_arm_reads_as_it_is_written(
    text: str, objective: ObjectiveConfig, label: str, folder: str
) -> None:
    arm = parse(text)
    assert arm == Arm(backbone=text.split(":")[0], objective=objective)
    assert arm.label == label
    assert arm.folder == folder


@pytest.mark.parametrize(
    ("written", "labels"), [("in_sample", "in_sample"), ("crossfit8", "crossfit:8")]
)
def test_an_arm_may_say_who_labels_it(written: str, labels: str) -> None:
    arm = parse(f"tiger:soft_ce:0.5:labelled={written}")
    assert arm.labelled == labels
    assert arm.label == f"TIGER+TCA soft_ce alpha=0.5 labelled={written}"
    assert arm.folder == f"tiger-soft_ce-0.5-labelled{written}"


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("tiger:soft_ce:0.5:labelled=me", "labels must be auto, in_sample"),
        ("tiger:ntp:labelled=in_sample", "has no teacher, so nobody labels"),
    ],
)
def test_labels_of_an_arm_that_do_not_fit_are_refused(text: str, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        parse(text)


@pytest.mark.parametrize(
    ("text", "scheme", "label", "folder"),
    [
        ("causal@random:ntp", "random", "Causal@random ntp", "causal@random-ntp"),
        (
            "tiger@letter:soft_ce:0.5",
            "letter",
            "TIGER@letter+TCA soft_ce alpha=0.5",
            "tiger@letter-soft_ce-0.5",
        ),
        ("tiger@letter:letter", "letter", "LETTER-TIGER tau=0.7", "tiger@letter-letter-tau0.7"),
        (
            "tiger@letter:letter:tau=1",
            "letter",
            "LETTER-TIGER tau=1",
            "tiger@letter-letter-tau1",
        ),
        ("tiger@rqvae:letter", "rqvae", "TIGER@rqvae letter tau=0.7", "tiger@rqvae-letter-tau0.7"),
        ("tiger:letter", None, "TIGER letter tau=0.7", "tiger-letter-tau0.7"),
        (
            "tiger@my-ids:soft_ntp:0.1:tau=4.5",
            "my-ids",
            "TIGER@my-ids+TCA soft_ntp alpha=0.1 tau=4.5",
            "tiger@my-ids-soft_ntp-0.1-tau4.5",
        ),
    ],
)
def test_label_and_folder_say_the_scheme_and_a_temperature_of_ones_own(
    text: str, scheme: str | None, label: str, folder: str
) -> None:
    arm = parse(text)
    assert (arm.scheme, arm.label, arm.folder) == (scheme, label, folder)


@pytest.mark.parametrize(
    ("text", "objective", "label", "folder"),
    [
        (
            "causal:soft_ntp:0.3:alpha=entropy:cap=true:labels=uniform_tokens:mean=branching",
            ObjectiveConfig(
                name="soft_ntp",
                alpha=0.3,
                policy=AlphaPolicy(by="entropy", cap=True),
                labels="uniform_tokens",
                mean="branching",
            ),
            "Causal+TCA soft_ntp alpha=0.3*entropy labels=uniform_tokens mean=branching cap=true",
            "causal-soft_ntp-0.3-labelsuniform_tokens-meanbranching-alphaentropy-captrue",
        ),
        (
            "tiger:aux_kl:1:start=0.25:rise=.5",
            ObjectiveConfig(name="aux_kl", alpha=1.0, policy=AlphaPolicy(start=0.25, rise=0.5)),
            "TIGER+TCA aux_kl alpha=1 start=0.25 rise=0.5",
            "tiger-aux_kl-1-start0.25-rise0.5",
        ),
        (
            "tiger:soft_ce:0.5:alpha=rarity:half=20",
            ObjectiveConfig(name="soft_ce", alpha=0.5, policy=AlphaPolicy(by="rarity", half=20.0)),
            "TIGER+TCA soft_ce alpha=0.5*rarity half=20",
            "tiger-soft_ce-0.5-alphararity-half20",
        ),
        (
            "tiger:soft_ce:0.5:gate=0.1:alpha=learned",
            ObjectiveConfig(name="soft_ce", alpha=0.5, policy=AlphaPolicy(by="learned", gate=0.1)),
            "TIGER+TCA soft_ce alpha=0.5*learned gate=0.1",
            "tiger-soft_ce-0.5-alphalearned-gate0.1",
        ),
        (
            "causal:msl:tau=adaptive",
            ObjectiveConfig(name="msl", tau="adaptive", mean="branching"),
            "Causal msl tau=adaptive mean=branching",
            "causal-msl-tauadaptive-meanbranching",
        ),
        (
            "causal:msl:tau=adaptive:mean=all",
            ObjectiveConfig(name="msl", tau="adaptive"),
            "Causal msl tau=adaptive",
            "causal-msl-tauadaptive",
        ),
        (
            "tiger:soft_ntp:0.1:tau=4.5:reference=linear+bfloat16+end",
            ObjectiveConfig(
                name="soft_ntp", alpha=0.1, tau=4.5, reference=("bfloat16", "end", "linear")
            ),
            "TIGER+TCA soft_ntp alpha=0.1 tau=4.5 reference=bfloat16+end+linear",
            "tiger-soft_ntp-0.1-tau4.5-referencebfloat16+end+linear",
        ),
        (
            "causal:soft_ce:0.9:on_policy=0.25",
            ObjectiveConfig(name="soft_ce", alpha=0.9, on_policy=0.25),
            "Causal+TCA soft_ce alpha=0.9 on_policy=0.25",
            "causal-soft_ce-0.9-on_policy0.25",
        ),
        (
            "tiger:msl:reference=end",
            ObjectiveConfig(name="msl", reference=("end",)),
            "TIGER msl reference=end",
            "tiger-msl-referenceend",
        ),
        (
            "tiger:ntp:masked=false",
            ObjectiveConfig(masked=False),
            "TIGER ntp masked=false",
            "tiger-ntp-maskedfalse",
        ),
        (
            "tiger:soft_ce:0.5:masked=true:cap=false:alpha=constant:labels=teacher:mean=all:start=0",
            ObjectiveConfig(name="soft_ce", alpha=0.5),
            "TIGER+TCA soft_ce alpha=0.5",
            "tiger-soft_ce-0.5",
        ),
    ],
)
def test_options_are_read_and_shown_where_they_are_no_defaults(
    text: str, objective: ObjectiveConfig, label: str, folder: str
) -> None:
    arm = parse(text)
    assert (arm.objective, arm.label, arm.folder) == (objective, label, folder)
    assert arm.objective.needs_teacher == ("TCA" in label and "uniform" not in label)


def test_an_arm_may_leave_the_mask_that_all_others_have_and_take_what_they_have_not() -> None:
    arm = parse("tiger:ntp:masked=true", masked=False)
    assert (arm.objective.masked, arm.label) == (True, "TIGER ntp masked=true")
    assert parse("tiger:ntp:masked=false", masked=False).label == "TIGER ntp"


def test_letters_temperature_is_its_own_unless_the_arm_says_otherwise() -> None:
    for text, tau in (("tiger:letter", LETTER_TAU), ("tiger:letter:tau=0.9", 0.9)):
        for masked in (True, False):
            objective = parse(text, masked=masked, tau=4.5).objective
            assert objective == ObjectiveConfig(name="letter", tau=tau, masked=masked)


def test_all_arms_share_mask_and_temperature_save_msl_which_is_masked_by_definition() -> None:
    objectives = [
        parse(text, masked=False, tau=4.5).objective
        for text in ("tiger:ntp", "tiger:soft_ce:0.5", "tiger:msl")
    ]
    assert [objective.masked for objective in objectives] == [False, False, True]
    assert {objective.tau for objective in objectives} == {4.5}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("tiger", r"expected an arm backbone\[@scheme\]:objective"),
        ("", r"expected an arm backbone\[@scheme\]:objective"),
        ("tigre:ntp", "backbone out of tiger, causal, .*, got 'tigre:ntp'"),
        ("tiger:soft_ce:0.5:1", r"expected an arm backbone\[@scheme\]:objective"),
        ("tiger:soft", "objective must be one of .*, soft_ce, aux_kl, got 'soft'"),
        ("tiger:soft_ce", "needs an alpha, for example tiger:soft_ce:0.5"),
        ("tiger:soft_ce:", "expected a number for alpha"),
        (
            "tiger:soft_ce:half",
            "expected a number for alpha, got 'half' .in arm 'tiger:soft_ce",
        ),
        ("tiger:soft_ce:1.5", "alpha must be a number of at least 0 and of at most 1"),
        ("tiger:soft_ce:nan", "alpha must be a finite number, got nan"),
        ("tiger:ntp:0.5", "ntp has no teacher"),
        ("tiger:ntp:0", "ntp has no teacher"),
        ("tiger:letter:0.5", "letter has no teacher"),
        ("tiger@:ntp", r"expected an arm backbone\[@scheme\]:objective"),
        ("@letter:ntp", "backbone out of tiger, causal, .*, got '@letter:ntp'"),
        ("tiger:tau=1", r"expected an arm backbone\[@scheme\]:objective"),
        ("tiger:ntp:tau=", "expected a number for tau, got '' .in arm 'tiger:ntp:tau='"),
        ("tiger:ntp:on_policy=0.5", "on_policy needs a teacher's labels at an alpha above 0"),
        ("tiger:soft_ce:0.5:on_policy=2", "on_policy must be"),
        ("tiger:ntp:tau=0", "tau must be a number of at least 1e-06"),
        ("tiger:soft_ce:tau=2", "needs an alpha, for example tiger:soft_ce:0.5"),
        ("tiger:soft_ce:0.5:beta=2", "expected KEY=VALUE with a key out of tau, .*, got 'beta=2'"),
        ("tiger:soft_ce:0.5:tau=2:3", "expected KEY=VALUE with a key out of tau, .*, got '3'"),
        ("tiger:soft_ce:0.5:tau=2:tau=3", "expected tau once, got 'tau=3' too"),
        ("tiger:soft_ce:0.5:cap=yes", "expected true or false for cap, got 'yes'"),
        ("tiger:soft_ce:0.5:rise=slow", "expected a number for rise, got 'slow'"),
        ("tiger:soft_ce:0.5:alpha=sure", "an alpha policy must be one of constant, .*, got 'sure'"),
        ("tiger:soft_ce:0.5:labels=flat", "labels must be one of teacher, .*, got 'flat'"),
        ("tiger:soft_ce:0.5:mean=some", "mean must be one of all, branching, got 'some'"),
        ("tiger:msl:reference=", "each one of bfloat16, end, linear, got .''"),
        ("tiger:msl:reference=bf16+end", "linear, got .'bf16', 'end'. .in arm 'tiger:msl"),
        ("tiger:msl:reference=bfloat16", "reference bfloat16 rounds a teacher's scores, and msl"),
        ("tiger:soft_ce:0.5:reference=linear", "reference linear applies to ntp, msl, soft_ntp"),
        ("tiger:soft_ce:0.5:start=0.9:rise=0.2", "start and rise are shares of the training"),
        ("tiger:soft_ce:0.5:half=2", "half belongs to history, .*, not to constant"),
        ("tiger:ntp:alpha=entropy", "ntp has no teacher, so it takes no labels or alpha policy"),
        ("tiger:msl:masked=false", "msl is masked by definition"),
        ("tiger:ntp:masked=false:tau=adaptive", "an adaptive tau needs the mask"),
        ("tiger:aux_kl:0.5:cap=true", "leave out the cap"),
        ("tiger:soft_ce:1:alpha=learned", "a learned alpha starts strictly between 0 and 1, got 1"),
    ],
)
def test_what_is_no_arm_is_refused_with_the_way_out(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse(text)


@pytest.mark.parametrize(
    ("text", "others", "expected"),
    [
        ("tiger:soft_ce:0.5", ["causal:ntp", "tiger:ntp", "tiger:msl"], "tiger:ntp"),
        ("tiger:soft_ntp:0.1:tau=4.5", ["tiger:ntp", "tiger:msl:tau=4.5"], "tiger:msl:tau=4.5"),
        ("tiger:soft_ntp:0.1:masked=false", ["tiger:ntp"], None),
        ("tiger@a:aux_kl:0.1", ["tiger:ntp", "tiger@a:ntp"], "tiger@a:ntp"),
        ("tiger:soft_ce:0.5", ["tiger:soft_ce:0", "tiger:soft_ntp:0.1"], None),
        ("tiger:ntp", ["tiger:msl"], None),
    ],
)
def test_the_counterpart_of_an_arm_is_the_same_without_a_teacher(
    text: str, others: list[str], expected: str | None
) -> None:
    found = parse(text).counterpart([parse(other) for other in others])
    assert found == (None if expected is None else parse(expected))


def test_an_arm_builds_its_backbone_with_the_shape_under_its_name(tiny_codes: Tensor) -> None:
    encoder = EncoderConfig(dim=8, ff_dim=8)
    configs = BackboneConfigs(
        tiger=TigerConfig(dim=8, num_layers=1, num_heads=1, head_dim=8, ff_dim=8, max_history=7),
        causal=CausalConfig(encoder=encoder, max_history=9),
    )
    for text, kind, max_history in (
        ("tiger:ntp", TigerBackbone, 7),
        ("causal:soft_ce:0.5", CausalBackbone, 9),
    ):
        made = build(parse(text).backbone, configs, tiny_codes, (3, 3, 2))
        assert isinstance(made, kind)
        assert made.max_history == max_history
        assert torch.equal(made.codes, tiny_codes)


def test_every_built_in_backbone_is_found_and_has_settings() -> None:
    for name in BACKBONES:
        config, _ = backbone_settings(backbone_class(name), BackboneConfigs())
        assert type(config) is backbone_class(name).config_class


def test_a_backbone_and_an_objective_from_outside_stand_between_colons() -> None:
    path = "baselines.backbones.causal:CausalBackbone"
    arm = parse(f"{path}@random:soft_ce:0.5:tau=2")
    assert (arm.backbone, arm.scheme, arm.objective.name) == (path, "random", "soft_ce")
    assert (arm.objective.alpha, arm.objective.tau) == (0.5, 2)
    assert arm.folder == path.replace(":", ".") + "@random-soft_ce-0.5-tau2"
    assert arm.label == "Causal@random+TCA soft_ce alpha=0.5 tau=2"
    assert parse(f"{path}:ntp").backbone == path
