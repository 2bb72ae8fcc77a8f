"""Which arms an experiment has, and what is refused before any of them runs."""

import pytest
import tiny

from simreal.arms import PIXELS, Arm, arms, chains, check, moved_to, needed, staying
from simreal.config_files import parse
from simreal_agents.encoders import SMALLEST
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


def test_a_target_may_say_which_sources_are_moved_to_it():
    strategies = "strategies={fine_tune: {}, mean: {type: weight_average}, taught: {type: kickstart, teacher: third}}"
    sources = "sources={plain: {}, robust: {}, third: {}}"
    one = of_several(
        sources, strategies, "seeds=[3]", "targets.light.sources=[third, plain]", "sequence=[light, heavy]"
    )[0]
    check(one)
    found = {target: [(a.source, a.strategy) for a in arms(one) if a.target == target] for target in one.targets}
    assert found == {
        "light": [
            ("none", "scratch"), ("third", "fine_tune"), ("plain", "fine_tune"), ("third+plain", "mean"), ("plain", "taught"),
        ],
        "heavy": [
            ("none", "scratch"), ("plain", "fine_tune"), ("robust", "fine_tune"), ("third", "fine_tune"),
            ("plain+robust+third", "mean"), ("plain", "taught"), ("robust", "taught"),
        ],
    }  # fmt: skip
    assert {chain[0].source for chain in chains(one)} == {"third", "plain", "third+plain"}  # as the first target says
    assert (moved_to(one, "light"), needed(one)) == (("third", "plain"), ["plain", "robust", "third"])


def test_a_source_that_is_only_the_teacher_of_a_target_is_moved_there_as_well():
    one = of_several("targets.light.sources=[robust]", "strategies={taught: {type: kickstart, teacher: robust}}")[0]
    assert [arm.source for arm in arms(one) if arm.target == "light" and arm.strategy == "taught"] == [
        "robust",
        "robust",
    ]


def test_only_what_is_moved_somewhere_or_teaches_is_needed():
    restricted = ["sequence=[]", "targets.light.sources=[plain]", "targets.heavy.sources=[plain]"]
    assert needed(of_several(*restricted, "strategies={fine_tune: {}}")[0]) == ["plain"]
    assert needed(of_several(*restricted, "strategies={taught: {type: kickstart, teacher: robust}}")[0]) == [
        "plain",
        "robust",
    ]


def test_a_source_of_another_schema_stays_away_where_it_is_not_moved():
    other = ["strategies={fine_tune: {}}", "sources.robust={task: pendulum_swingup}", "sequence=[]"]
    with pytest.raises(UserError, match="source 'robust' and target 'light' differ"):
        check(*of_several(*other))
    check(*of_several(*other, "targets.light.sources=[plain]", "targets.heavy.sources=[plain]"))
    taught = [*other, "strategies={taught: {type: kickstart, teacher: robust}}"]  # who teaches acts there, too
    with pytest.raises(UserError, match="source 'robust' and target 'light' differ"):
        check(*of_several(*taught, "targets.light.sources=[plain]", "targets.heavy.sources=[plain]"))


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        (
            "targets.light.sources=[plain, rbust]",
            "targets.light.sources: unknown source 'rbust'; did you mean 'robust'?",
        ),
        ("targets.light.sources=[plain, plain]", "targets.light.sources: a source is named twice"),
        ("targets.light.sources=[]", "targets.light.sources: must not be empty"),
        ("targets.light.sources=plain", "targets.light.sources: must be a list, not 'plain'"),
        (
            "targets.light.sources=[plain]",
            "targets.light.sources: the strategy 'careful' needs several sources, and here is only one",
        ),
    ],
)
def test_the_sources_of_a_target_must_be_there_and_suffice(override, sentence):
    with pytest.raises(UserError) as caught:
        check(*of_several(override))
    assert str(caught.value).startswith(f"override {override!r}: {sentence}")


def test_a_strategy_does_not_move_what_a_target_does_not_take():
    careful = "strategies.careful={type: [weight_average, critic_warmup], sources: [plain, robust]}"
    with pytest.raises(UserError) as caught:
        check(*of_several("sources.third={}", careful, override := "targets.heavy.sources=[plain, third]"))
    assert str(caught.value) == (
        f"override {override!r}: targets.heavy.sources: 'robust' is not among them, which the strategy 'careful' moves; "
        "add it here or take it from the strategy's `sources`"
    )


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


def test_a_sequence_along_which_no_strategy_goes_is_refused():
    alone = "strategies={adapted: channel_adapter}"
    with pytest.raises(UserError, match=r"sequence: none of the strategies goes along it \(scratch, adapted\)"):
        check(*of_several(alone))
    check(*of_several("strategies={adapted: channel_adapter, fine_tune: {}}"))


def test_a_mixture_is_no_source_of_the_next_mixture():
    kinds = (
        "strategies={mixed: {type: multi_source, combine: mixture}, stacked: {type: multi_source, combine: stacked}}"
    )
    assert staying(of_several(kinds)[0]) == ["mixed"]


def test_ways_that_do_not_go_along_a_sequence_are_known_and_run_tells_them(types):
    mixed = "strategies={adapted: channel_adapter, careful: [channel_adapter, l2sp], fine_tune: {}}"
    experiment, _ = of_several(mixed)
    assert staying(experiment) == ["adapted", "careful"]
    assert {chain[0].strategy for chain in chains(experiment)} == {"fine_tune"}
    assert staying(of_several(mixed, "sequence=[]")[0]) == staying(of_several()[0]) == []
    (types.cwd / "several.yaml").write_text(tiny.SEVERAL)
    (types.cwd / "mine").write_text("no folder, so that nothing is run")
    note, refusal = types("run", "several.yaml", mixed, "--out", "mine")[2].splitlines()
    assert note == (
        "note: several.yaml:15: sequence: these strategies cannot begin with the agent that they have ended with, and do not go "
        "along it: adapted, careful; the report has their arms on each target only"
    )
    assert refusal.startswith("simreal: cannot write to the output folder mine")


def test_convolutions_that_need_larger_pictures_are_refused_with_their_key():
    text = "task: grid_catch\nagent:\n  cnn: {}\nsources: {{a: {{}}}}\ntargets: {{b: {{}}}}"
    with pytest.raises(UserError) as caught:
        check(*parse(text.format("nature"), "games.yaml"))
    assert str(caught.value) == (
        "games.yaml:3: agent.cnn: nature needs pictures of at least 36 x 36 pixels, but sources.a shows 10 x 10; null takes "
        "what fits their size"
    )
    check(*parse(text.format("small"), "games.yaml"))
    assert PIXELS == SMALLEST


def test_presets_of_atari_games_are_never_compared_with_each_other():
    pytest.importorskip("ale_py", reason="ale-py is in the extra `atari`")
    text = """
    task: ale:pong@42
    sources: {plain: {}}
    targets:
      hard: {variation: {difficulty: 1}}
      other:
        task: ale:breakout@42
        preset: nature15
    strategies: {surgery: {}}
    """
    with pytest.raises(UserError) as caught:
        check(*parse(text, "two.yaml"))
    assert str(caught.value) == (
        "two.yaml:6: targets.other: ale:breakout@42 under 'nature15' cannot be compared with source 'plain' under 'machado18', "
        "since rewards and episodes are others; give all of them one preset"
    )
    check(*parse(text, "two.yaml", ["sources.plain.preset=nature15", "targets.hard.preset=nature15"]))
    robots = parse(tiny.SEVERAL, "several.yaml", ["targets.heavy.preset=engine_default"])
    check(*robots)  # theirs are levels of a gap


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("targets.hard.variation={mode: 9}", "targets.hard: mode must be one of 0, 1, not 9"),
        (
            "targets.hard.variation={difficulty: 7}",
            "targets.hard: difficulty must be one of 0, 1, 2, 3, not 7",
        ),
        ("targets.hard.task=ale:combat", "targets.hard: ale:combat is a game for two, which ale-py cannot start"),
        ("targets.hard.task=ale:pongg", "targets.hard: unknown Atari game 'pongg'; did you mean 'pong'?"),
        (
            "targets.hard.preset=nature",
            "targets.hard: unknown preset of ale:pong@42 'nature'; did you mean 'nature15'?",
        ),
    ],
)
def test_mistakes_about_a_game_are_told_with_their_place(override, sentence):
    pytest.importorskip("ale_py", reason="ale-py is in the extra `atari`")
    text = "task: ale:pong@42\nsources: {plain: {}}\ntargets:\n  hard: {}"
    with pytest.raises(UserError) as caught:
        check(*parse(text, "games.yaml", [override]))
    assert str(caught.value).startswith((f"games.yaml:4: {sentence}", f"override {override!r}: {sentence}"))
