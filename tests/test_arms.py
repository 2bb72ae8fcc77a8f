"""Which arms an experiment has, and what is refused before any of them runs."""

import pytest
import tiny

from simreal.arms import Arm, arms, chains, check
from simreal.config_files import parse
from simreal_envs.errors import UserError


def of_several(*overrides):
    return parse(tiny.SEVERAL, "several.yaml", overrides)


def test_there_is_one_control_arm_however_many_sources():
    two, _ = parse(tiny.CONFIG, "tiny.yaml", ["sources={a: {steps: 64}, b: {steps: 64}}", "seeds=[3]"])
    assert [arm for arm in arms(two) if arm.strategy == "scratch"] == [Arm("none", "scratch", "light", 3)]
    assert len(list(arms(two))) == 1 + 2 * 2


def test_an_arm_may_have_several_sources_a_teacher_and_a_way_along_the_sequence():
    experiment, _ = of_several("seeds=[3]")
    light = [arm for arm in arms(experiment) if arm.target == "light"]
    assert [(arm.source, arm.strategy) for arm in light] == [
        ("none", "scratch"), ("plain+robust", "careful"), ("plain", "taught"),  # who teaches is not moved
    ]  # fmt: skip
    assert [[str(arm.path) for arm in chain] for chain in chains(experiment)] == [
        ["arms/plain+robust/careful/light/seed-3", "arms/plain+robust/careful/sequence/2-heavy/seed-3"],
        ["arms/plain/taught/light/seed-3", "arms/plain/taught/sequence/2-heavy/seed-3"],
    ]
    assert not list(chains(of_several("sequence=[]")[0]))


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("strategies.careful=[scratch, l2sp]", "strategies.careful: scratch does not combine"),
        ("strategies.careful=[layerwise_lr, fine_tune]", "layerwise_lr and fine_tune contradict each other"),
        (
            "strategies.careful=[layerwise_lr, l2ps]",
            "strategies.careful: unknown strategy 'l2ps'; did you mean 'l2sp'?",
        ),
        (
            "strategies.taught.teacher=robst",
            "strategies.taught.teacher: unknown source 'robst'; did you mean 'robust'?",
        ),
        ("strategies.fine_tune={teacher: robust}", "strategies.fine_tune.teacher: fine_tune learns from no teacher"),
        ("strategies.fine_tune={sources: [plain, robust]}", "fine_tune moves one agent at a time, from every source"),
        (
            "strategies.mean={type: weight_average, sources: [plain, rbust]}",
            "unknown source 'rbust'; did you mean 'robust'?",
        ),
        (
            "strategies.mean={type: weight_average, sources: [plain, plain]}",
            "strategies.mean.sources: a source is named twice",
        ),
        ("strategies.epopt={}", "strategies.epopt: epopt makes a source agent; write it as sources.NAME.strategy"),
        ("sources.plain.strategy=fine_tune", "sources.plain.strategy: fine_tune moves an agent to a target"),
        ("sources.plain.strategy={type: epopt, teacher: robust}", "pretraining begins without an agent"),
        ("sources.plain.strategy=multi_tusk", "unknown strategy 'multi_tusk'; did you mean 'multi_task'?"),
        ("sources.plain.strategy=epotp", "sources.plain.strategy: unknown strategy 'epotp'; did you mean 'epopt'?"),
    ],
)
def test_what_a_strategy_cannot_do_is_told_with_its_place(override, sentence):
    with pytest.raises(UserError) as caught:
        check(*of_several(override))
    assert sentence in str(caught.value) and str(caught.value).startswith(f"override {override!r}: ")


def test_several_sources_must_be_there():
    with pytest.raises(UserError, match="multi_task learns in the domains of several sources, and here is only one"):
        check(*of_several("sources={plain: {strategy: multi_task}}"))
    experiment, where = of_several("sources={plain: {steps: 64}}", "strategies={mean: {type: weight_average}}")
    with pytest.raises(
        UserError, match=r"strategies\.mean: weight_average needs several sources, and here is only one"
    ):
        check(experiment, where)


def test_a_target_is_seen_as_its_source_is():
    own = "targets.heavy.observe={history: 4}"
    with pytest.raises(UserError) as caught:
        check(*of_several(own))
    assert str(caught.value) == (
        f"override {own!r}: targets.heavy.observe: agents see a target as they saw their source: "
        "only scratch would see this `observe`; write it in the source"
    )
    alike = [f"sources.{name}.observe={{history: 4}}" for name in ("plain", "robust")]
    check(*of_several(own, *alike))
    with pytest.raises(UserError, match="only scratch would see"):
        check(*of_several(own, alike[0]))
    check(*of_several("strategies={surgery: {}}", own))  # fits the agent to what the target shows


def test_a_target_may_show_the_same_parameters_in_other_ranges():
    shown = "observe={parameters: [pole/mass]}"
    check(*of_several(f"targets.heavy.{shown}", f"sources.plain.{shown}", f"sources.robust.{shown}"))


def test_all_targets_of_a_sequence_are_for_the_same_agent():
    others = ["strategies={surgery: {}}", "targets.heavy={task: pendulum_swingup}"]
    with pytest.raises(UserError, match=r"several\.yaml:\d+: sequence: .* of target 'light' and target 'heavy' differ"):
        check(*of_several(*others))
    check(*of_several(*others, "sequence=[]"))
