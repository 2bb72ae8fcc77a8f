"""The experiment's YAML: what it means, how it is overridden, and what is said about mistakes."""

from pathlib import Path
from typing import get_args

import pytest
from pydantic import BaseModel, ValidationError

from simreal.config import AgentConfig, Experiment, domains
from simreal.config_domains import domain_of
from simreal.config_files import SHIPPED, available, dump, find, load, model_at, parse
from simreal.hyperparameters import HYPERPARAMETERS, PARTS
from simreal_envs.errors import UserError

TEXT = """\
name: quickstart
task: cartpole_swingup
seeds: 5
agent: {hidden: [64, 32], num_worlds: 64, hyperparameters: {learning_rate: 1e-3, n_steps: 32}}
sources:
  randomized:
    engine: mujoco
    steps: 200_000
    variation: {pole/mass: {uniform: [0.05, 0.15]}, "*/mass": {scale: {uniform: [0.8, 1.2]}}}
    curriculum: {start: 0.2, until: 0.5}
targets:
  heavy: {engine: bullet, steps: 2000, variation: {pole/mass: 0.15}}
  v1.2:
strategies:
  zero_shot:
  gentle: {type: fine_tune, lr_scale: 0.1}
workers: 2
"""


def mistake(*overrides: str, text: str = TEXT) -> str:
    with pytest.raises(UserError) as caught:
        parse(text, "q.yaml", overrides)
    return str(caught.value)


def test_a_config_is_resolved_with_all_defaults():
    experiment, _ = parse(TEXT)
    assert experiment.seeds == (0, 1, 2, 3, 4)
    assert experiment.agent.hidden == (64, 32)
    assert experiment.agent.hyperparameters.learning_rate == 1e-3
    assert experiment.agent.hyperparameters.gamma == 0.98
    source, heavy = experiment.sources["randomized"], experiment.targets["heavy"]
    assert (source.task, source.steps, source.curriculum.until) == ("cartpole_swingup", 200_000, 0.5)
    assert (heavy.task, heavy.engine, heavy.preset) == ("cartpole_swingup", "bullet", None)
    assert experiment.targets["v1.2"].steps == 60_000
    assert (experiment.evaluation.points, experiment.verdict.min_seeds, experiment.tracking.wandb) == (9, 5, "auto")


def test_a_budget_without_a_single_update_is_refused():
    agent = "agent={algorithm: sac, hyperparameters: {learning_starts: %d}}"
    said = mistake(agent % 2000)
    assert said == (
        "q.yaml:12: targets.heavy.steps: 2000 leave no update after agent.hyperparameters.learning_starts 2000: "
        "give it more, or that less"
    )
    parse(TEXT, "q.yaml", [agent % 999])


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("targets:", "  none: {}\ntargets:", "sources.none: a source cannot be called 'none'"),
        ("strategies:", "  sequence: {}\nstrategies:", "targets.sequence: a target cannot be called"),
        (
            "workers:",
            "  scratch: fine_tune\nworkers:",
            "strategies.scratch: the strategy named 'scratch' is the control",
        ),
        (
            "workers:",
            "  Gentle: fine_tune\nworkers:",
            "strategies.Gentle: differs from 'gentle' only in upper and lower",
        ),
    ],
)
def test_what_several_keys_do_together_is_told_with_the_line_of_one(old, new, says):
    text = TEXT.replace(f"\n{old}", f"\n{new}")
    line = next(number for number, line in enumerate(text.splitlines(), 1) if line.startswith(new.splitlines()[0]))
    assert mistake(text=text).startswith(f"q.yaml:{line}: {says}")


def test_the_control_arm_is_always_there_and_strategies_may_have_names_of_their_own():
    strategies = parse(TEXT)[0].strategies
    assert {name: (s.type, s.settings) for name, s in strategies.items()} == {
        "scratch": ("scratch", {}),
        "zero_shot": ("zero_shot", {}),
        "gentle": ("fine_tune", {"lr_scale": 0.1}),
    }


def test_what_is_dumped_loads_to_an_equal_experiment(tmp_path):
    experiment, _ = parse(TEXT, overrides=["seeds=[3, 1]", "name='010'"])
    (tmp_path / "config.yaml").write_text(dump(experiment))
    again = load(tmp_path / "config.yaml")
    assert again == experiment
    assert dump(again) == dump(experiment)


@pytest.mark.parametrize(
    ("file", "name"),
    [("light.yaml", "light"), ("2. Versuch (für A1).yaml", "2.-Versuch-f-r-A1"), ("...yaml", "experiment")],
)
def test_an_experiment_without_a_name_is_called_as_its_file(tmp_path, file, name):
    plain = "task: cartpole_swingup\nsources: {a: {}}\ntargets: {b: {}}\n"
    (tmp_path / file).write_text(plain)
    assert load(tmp_path / file).name == name
    assert load(tmp_path / file, ["name=mine"]).name == "mine"
    assert load(tmp_path / file, ["seeds=2"]).name == name
    (tmp_path / file).write_text("name: own\n" + plain)
    assert load(tmp_path / file).name == "own"
    assert parse(plain)[0].name == "experiment"  # text has no file


def test_experiments_are_frozen():
    with pytest.raises(ValidationError):
        parse(TEXT)[0].agent.num_worlds = 3


@pytest.mark.parametrize(
    ("override", "read", "value"),
    [
        ("targets.heavy.steps=2_000", lambda e: e.targets["heavy"].steps, 2000),
        ("targets.heavy.steps=2e3", lambda e: e.targets["heavy"].steps, 2000),
        ("targets.v1.2.steps=7", lambda e: e.targets["v1.2"].steps, 7),
        ("targets.new={engine: bullet}", lambda e: e.targets["new"].task, "cartpole_swingup"),
        ("seeds=[0, 7]", lambda e: e.seeds, (0, 7)),
        ("seeds=2", lambda e: e.seeds, (0, 1)),
        ("evaluation.points=3", lambda e: e.evaluation.points, 3),
        ("task=quadruped", lambda e: e.sources["randomized"].task, "quadruped"),
        ("strategies.gentle.lr_scale=0.3", lambda e: e.strategies["gentle"].settings["lr_scale"], 0.3),
        ("strategies.zero_shot.x=1", lambda e: e.strategies["zero_shot"].settings, {"x": 1}),
        ("strategies={fine_tune: }", lambda e: list(e.strategies), ["scratch", "fine_tune"]),
        ("strategy=l2sp", lambda e: list(e.strategies), ["scratch", "zero_shot", "gentle", "l2sp"]),
        ("sequence=[heavy, v1.2, heavy]", lambda e: e.sequence, ("heavy", "v1.2", "heavy")),
        ("targets.heavy.observe={history: 4}", lambda e: e.targets["heavy"].observe.history, 4),
        ("tracking.project=no", lambda e: e.tracking.project, "no"),
        ("sources.randomized.variation.pole/mass=1.2", lambda e: e.sources["randomized"].variation["pole/mass"], 1.2),
        (
            "sources.randomized.variation.*/mass.scale=1.1",
            lambda e: e.sources["randomized"].variation["*/mass"],
            {"scale": 1.1},
        ),
        (
            "targets.v1.2.variation.latency.uniform=[0, 0.02]",
            lambda e: e.targets["v1.2"].variation,
            {"latency": {"uniform": [0, 0.02]}},
        ),
    ],
)
def test_overrides_reach_every_key(override, read, value):
    assert read(parse(TEXT, overrides=[override])[0]) == value


def test_later_overrides_win_and_the_config_text_stays_as_it_was():
    assert parse(TEXT, overrides=["workers=3", "workers=4"])[0].workers == 4
    assert parse(TEXT)[0].workers == 2


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("targets.heavvy.steps=1", "unknown target 'heavvy'; did you mean 'heavy'?"),
        ("strategies.gentel.lr_scale=1", "unknown strategy 'gentel'; did you mean 'gentle'?"),
        ("agnet.hidden=[1]", "override 'agnet.hidden=[1]': agnet: unknown key 'agnet'; did you mean 'agent'?"),
        ("targets.heavy.stepps=4", "targets.heavy.stepps: unknown key 'stepps'; did you mean 'steps'?"),
        ("agent.hyperparameters.lerning_rate=1", "unknown key 'lerning_rate'; did you mean 'learning_rate'?"),
        ("targets.heavy.curriculum={}", "a curriculum belongs to a source"),
        ("sources.randomized.variation={}", "a curriculum needs a variation to widen"),
        ("targets.heavy.steps=-4", "targets.heavy.steps: must be greater than or equal to 1, not -4"),
        ("targets.heavy.steps=1.5", "targets.heavy.steps: must be a whole number, not 1.5"),
        ("targets.heavy.steps=yes", "targets.heavy.steps: must be a number, not 'yes'"),
        ("workers=true", "workers: must be a number, not True"),
        ("tracking.wandb=off", "unknown value 'off'; did you mean 'offline'?"),
        ("agent.hyperparameters.gamma=.nan", "agent.hyperparameters.gamma: must be a finite number"),
        ("agent.hyperparameters.normalize_advantage=1", "normalize_advantage: must be a valid boolean, not 1"),
        ("agent.hyperparameters.batch_size=4096", "is more than the 2048 transitions between two updates"),
        ("agent.hidden=[]", "agent.hidden: must not be empty"),
        ("agent={algorithm:sac}", "agent.algorithm:sac: YAML wants a space after the colon: 'algorithm: sac'"),
        ("bridge=union", "override 'bridge=union': bridge: must be a mapping of keys to values, not 'union'"),
        ("bridge=true", "override 'bridge=true': bridge: must be a mapping of keys to values, not True"),
        ("bridge.channels=all", "bridge.channels: unknown value 'all'; valid: native, padding, union"),
        ("bridge.channel=union", "bridge.channel: unknown key 'channel'; did you mean 'channels'?"),
        ("targets.heavy.bridge=union", "targets.heavy.bridge: must be a mapping of keys to values, not 'union'"),
        ("task=3", "override 'task=3': task: must be a valid string, not 3"),
        ("seeds=0", "seeds: must be 1 to 10000 seeds, not 0"),
        ("seeds=.inf", "seeds: must be 1 to 10000 seeds, not inf"),
        ("seeds=[1, 1]", "seeds: seed 1 is given twice"),
        ("seeds=[-1]", "seeds.0: must be greater than or equal to 0"),
        ("seeds=", "seeds: must be a number of seeds or a list of seeds, not None"),
        ("seeds.a=1", "seeds is 5, which has no keys; set it as a whole: seeds=..."),
        ("seeds", "expected key=value"),
        ("=1", "expected key=value"),
        ("seeds=[", "override 'seeds=[': not valid YAML"),
        ("sources={}", "sources: must not be empty"),
        ("sources.none={}", "a source cannot be called 'none'"),
        ("targets.HEAVY={}", "differs from 'heavy' only in upper and lower case"),
        ("targets={../up: {}}", "the name '../up' must start with a letter or digit"),
        ("name=a/b", "the name 'a/b' must start with a letter or digit"),
        ("strategies.scratch={type: fine_tune}", "is the control arm; it cannot be a 'fine_tune'"),
        ("strategies.gentle=3", "strategies.gentle: must be a mapping of keys to values, not 3"),
        ("evaluation.points=1", "evaluation.points: must be greater than or equal to 2, not 1"),
    ],
)
def test_mistakes_are_answered_with_one_sentence(override, sentence):
    said = mistake(override)
    assert sentence in said
    assert "\n" not in said


def test_mistakes_in_the_file_carry_the_line():
    said = mistake(text=TEXT.replace("steps: 2000", "stps: 2000"))
    assert said.startswith("q.yaml:12: targets.heavy.stps: unknown key 'stps'; did you mean 'steps'?")


def test_all_mistakes_are_told_at_once_typos_first_missing_keys_last():
    text = TEXT.replace("targets:", "target:").replace("workers: 2", "workers: -2")
    assert [line.split(";")[0] for line in mistake(text=text).splitlines()] == [
        "q.yaml:11: target: unknown key 'target'",
        "q.yaml:17: workers: must be greater than or equal to 0, not -2",
        "q.yaml: targets: is missing: The domains to transfer to, by name.",
    ]


def test_a_domain_without_a_task_is_told_so():
    assert "q.yaml:6: sources.randomized.task: is missing" in mistake(
        text=TEXT.replace("task: cartpole_swingup\n", "\n")
    )


@pytest.mark.parametrize("text", ["", "5", "[1]"])
def test_a_file_that_is_no_mapping_is_refused(text):
    assert mistake(text=text).startswith("q.yaml: expected a mapping with the keys name, task,")


def test_configs_are_found_by_path_and_by_bare_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs/quickstart.yaml").write_text(TEXT)
    assert load("quickstart") == load("configs/quickstart.yaml") == load(tmp_path / "configs/quickstart.yaml")
    with pytest.raises(
        UserError, match=r"no config 'configs/quikstart.yaml'; did you mean 'configs/quickstart.yaml'\?"
    ):
        find("configs/quikstart.yaml")
    for folder in ("games", "robots", "robots/deep"):
        (tmp_path / "configs" / folder).mkdir()
    for name in ("games/quick", "games/both", "robots/both", "robots/deep/quickstart"):
        (tmp_path / f"configs/{name}.yaml").write_text(TEXT)
    assert load("quickstart") == load("quick") == load("games/quick") == load("robots/both")
    assert [str(find(name)) for name in ("quickstart", "quick", "games/both")] == [
        "configs/quickstart.yaml",
        "configs/games/quick.yaml",
        "configs/games/both.yaml",
    ]
    for name, near in (("gams/quick", "games/quick"), ("quikstart", "quickstart")):
        with pytest.raises(UserError, match=f"there is no config '{name}'; did you mean '{near}'"):
            find(name)
    with pytest.raises(UserError, match=r"there is no config 'both'; .*games/both, .*robots/both"):
        find("both")
    with pytest.raises(UserError, match="is a folder"):
        find("configs")
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match=r"binary.yaml: cannot be read: not UTF-8 text"):
        load("binary.yaml")


def test_the_configs_that_come_with_simreal_are_found_from_anywhere_and_give_way_to_ones_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("quickstart", "configs/quickstart.yaml"):
        assert find(name) == SHIPPED / "quickstart.yaml"
    assert load("grid_quick") == load("games/grid_quick")
    with pytest.raises(
        UserError, match=r"no config 'configs/quikstart.yaml'; did you mean 'configs/quickstart.yaml'\?"
    ):
        find("configs/quikstart.yaml")
    with pytest.raises(UserError, match=r"no config 'quikstart'; did you mean 'quickstart'\?"):
        find("quikstart")
    for folder in ("", "games"):
        (tmp_path / "configs" / folder).mkdir()
    for name in ("games/quickstart", "ours"):
        (tmp_path / f"configs/{name}.yaml").write_text(TEXT)
    assert find("quickstart") == Path("configs/games/quickstart.yaml") and find("ours") == Path("configs/ours.yaml")
    assert find("hopper") == SHIPPED / "hopper.yaml"
    assert {"ours", "hopper", "games/quickstart", "games/grid_quick"} <= set(available())


def test_domains_are_built_with_their_curriculum():
    experiment, where = parse(TEXT, "q.yaml")
    found = domains(experiment, where)
    assert list(found) == [("sources", "randomized"), ("targets", "heavy"), ("targets", "v1.2")]
    assert found["sources", "randomized"].to_dict()["curriculum"] == {"start": 0.2, "until": 0.5}
    assert found["targets", "heavy"].engine == "bullet"
    assert domain_of(experiment.targets["heavy"]) == found["targets", "heavy"]


def test_domains_that_do_not_exist_are_told_all_at_once_with_their_lines():
    overrides = ["sources.randomized.variation.pole/mas=1", "targets.v1.2.engine=bulet"]
    experiment, where = parse(TEXT, "q.yaml", overrides)
    with pytest.raises(UserError) as caught:
        domains(experiment, where)
    first, second = str(caught.value).splitlines()
    assert first.startswith("q.yaml:6: sources.randomized: ")
    assert "pole/mass" in first
    assert second.startswith("q.yaml:13: targets.v1.2: unknown engine 'bulet'")


def test_every_field_has_a_sentence():
    def walk(model: type[BaseModel], path: tuple[str, ...] = ()):
        for name, field in model.model_fields.items():
            yield ".".join((*path, name)), field.description
            inner = model_at((*path, name)) or model_at((*path, name, "any"))
            if inner:
                yield from walk(inner, (*path, name) if model_at((*path, name)) else (*path, name, "any"))

    described = dict(walk(Experiment))
    assert "agent.hyperparameters.gamma" in described
    assert "sources.any.curriculum.until" in described
    assert [name for name, text in described.items() if not (text and text.endswith("."))] == []


def test_the_config_knows_every_algorithm_and_every_part_of_a_network():
    from simreal_agents.algorithms import ALGORITHMS
    from simreal_agents.networks import GROUPS, MODULES, TOWERS

    assert list(HYPERPARAMETERS) == list(get_args(AgentConfig.model_fields["algorithm"].annotation))
    assert set(HYPERPARAMETERS) == set(ALGORITHMS)
    assert set(PARTS) == {*MODULES, *TOWERS, *GROUPS}


@pytest.mark.parametrize("algorithm", HYPERPARAMETERS)
def test_the_algorithm_chooses_what_it_may_be_told(algorithm):
    experiment, _ = parse(
        TEXT.replace("{learning_rate: 1e-3, n_steps: 32}", "{learning_rate: 1e-3}"),
        overrides=[f"agent.algorithm={algorithm}"],
    )
    settings = experiment.agent.hyperparameters
    assert type(settings) is HYPERPARAMETERS[algorithm] is model_at(("agent", "hyperparameters"), algorithm)
    assert settings.learning_rate == 1e-3
    assert parse(dump(experiment))[0] == experiment
    assert all(text.description and text.description.endswith(".") for text in type(settings).model_fields.values())


def test_the_settings_of_an_algorithm_are_its_own():
    e = parse(
        TEXT.replace("n_steps: 32", "ent_coef: auto_0.5, lr_scale: {encoder: 0.1, heads.critic: 2}"),
        overrides=["agent.algorithm=sac"],
    )[0]
    assert e.agent.hyperparameters.ent_coef == "auto_0.5"
    assert e.agent.hyperparameters.lr_scale == {"encoder": 0.1, "heads.critic": 2.0}
    assert parse(dump(e))[0] == e


@pytest.mark.parametrize(
    ("algorithm", "settings", "sentence"),
    [
        ("sax", "{n_steps: 8}", "agent.algorithm: unknown value 'sax'; did you mean 'sac'?"),
        ("sac", "{n_steps: 8}", "hyperparameters.n_steps: unknown key 'n_steps'; ppo has it, sac does not; did you mean"),
        ("ppo", "{tau: 0.1}", "unknown key 'tau'; sac, td3, tqc, dqn, qrdqn have it, ppo does not; valid:"),
        ("dqn", "{ent_coef: 0.1}", "unknown key 'ent_coef'; ppo, sac, tqc, crossq have it, dqn does not"),
        ("sac", "{learning_start: 0}", "unknown key 'learning_start'; did you mean 'learning_starts'?"),
        ("sac", "{ent_coef: always}", "ent_coef: must be a number from 0 to 100, auto, or auto_0.1"),
        ("sac", "{ent_coef: -1}", "ent_coef: must be a number from 0 to 100, auto, or auto_0.1"),
        ("sac", "{target_entropy: low}", "target_entropy: must be a number from -1000000 to 1000000 or auto, not 'low'"),
        ("sac", "{batch_size: 512, buffer_size: 100}", "hyperparameters.batch_size: 512 is more than the buffer_size of 100"),
        ("td3", "{buffer_size: 300, train_freq: 8}", "buffer_size: 300 is less than the 512 transitions between two updates"),
        ("tqc", "{n_quantiles: 2}", "top_quantiles_to_drop_per_net: 2 leaves none of the n_quantiles 2"),
        ("ppo", "{learning_rate_schedule: cosinus}", "unknown value 'cosinus'; did you mean 'cosine'?"),
        ("ppo", "{lr_scale: {encodr: 0.1}}", "lr_scale: unknown module 'encodr'; did you mean 'encoder'?"),
        ("ppo", "{lr_scale: {encoder: 1001}}", "lr_scale.encoder: must be less than or equal to 1000, not 1001"),
        ("crossq", "{critic_width: 8193}", "critic_width: must be less than or equal to 8192, not 8193"),
        ("ppo", "{lr_scale: {encoder: -0.1}}", "lr_scale.encoder: must be greater than or equal to 0, not -0.1"),
        ("ppo", "{group_max_grad_norm: {citric: 1}}", "group_max_grad_norm: unknown module 'citric'; did you mean 'critic'?"),
        ("ppo", "{dropout: 1}", "dropout: must be less than 1, not 1"),
        ("ppo", "3", "agent.hyperparameters: must be a mapping of keys to values, not 3"),
    ],
)  # fmt: skip
def test_mistakes_in_the_settings_of_an_algorithm(algorithm, settings, sentence):
    said = mistake(f"agent={{algorithm: {algorithm}, hyperparameters: {settings}}}")
    assert sentence in said and "\n" not in said


def test_only_what_remembers_can_keep_what_it_remembers():
    assert parse(TEXT, overrides=["agent={algorithm: dqn, replay: keep}"])[0].agent.replay == "keep"
    assert mistake("agent.replay=keep").endswith("agent.replay: ppo has no replay buffer to keep")


@pytest.mark.parametrize(
    ("written", "kind", "settings"),
    [
        ("fine_tune", "fine_tune", {}),
        ("{type: fine_tune, lr_scale: 0.1}", "fine_tune", {"lr_scale": 0.1}),
        ("[fine_tune]", "fine_tune", {}),
        ("[{fine_tune: {lr_scale: 0.1}}]", "fine_tune", {"lr_scale": 0.1}),
        ("[layerwise_lr, {l2sp: {alpha: 0.1}}, critic_warmup]", ("layerwise_lr", {"l2sp": {"alpha": 0.1}}, "critic_warmup"), {}),
        ("{type: [layerwise_lr, {l2sp: }]}", ("layerwise_lr", "l2sp"), {}),
        ("[layerwise_lr, {type: l2sp, alpha: 0.1}]", ("layerwise_lr", {"l2sp": {"alpha": 0.1}}), {}),
    ],
)  # fmt: skip
def test_a_strategy_or_several_have_every_form_that_one_would_write(written, kind, settings):
    for key, read in (
        ("strategies.gentle", lambda e: e.strategies["gentle"]),
        ("sources.randomized.strategy", lambda e: e.sources["randomized"].strategy),
    ):
        experiment, _ = parse(TEXT, overrides=[f"{key}={written}"])
        assert (read(experiment).type, read(experiment).settings) == (kind, settings)
        assert parse(dump(experiment))[0] == experiment


def test_several_sources_and_a_teacher_stand_beside_the_settings():
    experiment, _ = parse(TEXT, overrides=["strategies.gentle={type: [a, b], sources: [x, y], teacher: z}"])
    entry = experiment.strategies["gentle"]
    assert (entry.names, entry.sources, entry.teacher, entry.settings) == (("a", "b"), ("x", "y"), "z", {})
    assert parse(dump(experiment))[0] == experiment


@pytest.mark.parametrize("part", ["{l2sp: {alpha: 0.1}}", "{type: l2sp, alpha: 0.1}"])
def test_the_strategy_of_the_top_level_is_one_more_named_after_its_parts(part):
    text = TEXT.replace("workers: 2", f"strategy: [layerwise_lr, {part}]")
    experiment, where = parse(text, "q.yaml")
    assert list(experiment.strategies) == ["scratch", "zero_shot", "gentle", "layerwise_lr-l2sp"]
    assert where("strategies", "layerwise_lr-l2sp").startswith("q.yaml:17: ")
    assert parse(dump(experiment))[0] == experiment


def test_a_config_without_new_things_says_little_new():
    experiment, _ = parse(TEXT)
    assert experiment.sequence == () and experiment.strategy is None
    assert experiment.sources["randomized"].strategy is None and experiment.sources["randomized"].observe is None
    assert experiment.strategies["gentle"].model_dump() == {"type": "fine_tune", "lr_scale": 0.1}


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("strategies.gentle=[]", "strategies.gentle: type must be the name of a strategy or a list of strategies"),
        ("strategies.gentle=[a, 3]", "strategies.gentle: part 2 must be a strategy or a strategy with its settings"),
        ("strategies.gentle=[{a: {}, b: {}}]", "strategies.gentle: part 1 must be a strategy"),
        ("strategies.gentle=[{l2sp: 0.1}]", "strategies.gentle: part 1 must be a strategy"),
        (
            "strategies.gentle={type: [a, b], alpha: 3}",
            "'alpha' stands beside a combination; give it to one of its parts",
        ),
        ("strategies.gentle={type: [{type: l2sp, alpha: 1}, b], alpha: 3}", "as in [l2sp, {l2sp: {alpha: 0.1}}]"),
        ("strategies.gentle.sources=[randomized]", "strategies.gentle.sources: must have at least 2 entries"),
        ("strategies.gentle.sources=randomized", "strategies.gentle.sources: must be a list, not 'randomized'"),
        ("strategy=gentle", "strategies: there is a 'gentle' already, which `strategy` would add"),
        (
            "strategy={alpha: 1}",
            "strategy: type is missing: the name of a strategy, or a list of strategies to combine",
        ),
        ("sources.randomized.strategy={fraction: 0.1}", "sources.randomized.strategy: type is missing"),
        ("sequence=[heavy]", "sequence: a sequence has at least two targets, not only 'heavy'"),
        ("sequence=[heavy, hevy]", "sequence: unknown target 'hevy'; did you mean 'heavy'?"),
        ("sequence=heavy", "sequence: must be a list, not 'heavy'"),
        ("targets.sequence={}", "a target cannot be called 'sequence'"),
        ("targets.heavy.observe={histry: 4}", "observe.histry: unknown key 'histry'; did you mean 'history'?"),
    ],
)
def test_mistakes_in_strategies_and_sequences(override, sentence):
    said = mistake(override)
    assert sentence in said and "\n" not in said


def test_what_agents_see_goes_into_the_domain():
    found = domains(parse(TEXT, overrides=["sources.randomized.observe={parameters: all}"])[0])
    assert "pole/mass" in found["sources", "randomized"].observe.parameters
    assert "observe" not in found["targets", "v1.2"].to_dict()
