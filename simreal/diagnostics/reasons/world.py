"""What is different on the target: how the robot is wired, its dynamics, its reward, where it is."""

from collections.abc import Iterator, Mapping
from math import exp, inf, log
from typing import TYPE_CHECKING, NamedTuple

from simreal.diagnostics.reasons.base import STRONGEST, WIRING, WORLD, Beyond, Facts, Reason, Rule, farthest
from simreal.diagnostics.reasons.normal import NORMAL

if TYPE_CHECKING:
    from simreal.diagnostics.verdict import Verdict


GAIN = 1.2  # a factor that matters


ALIKE = {"all": "that all actions are reversed", "choices": "that the choices stand in the opposite order"}


class Cause(NamedTuple):
    """A hypothesis about a target: what was supposed, what it means and what to try, and how near to the root it is."""

    supposed: str
    means: str
    depth: int = WIRING


CAUSES = {
    "action_reversed": Cause(
        "that action {first!r} is reversed",
        "its drive is wired the other way round, or the sign convention differs; reverse it, or learn the policy head anew",
    ),
    "actions_swapped": Cause(
        "that the actions {first!r} and {second!r} are swapped",
        "two drives have changed places; wire them back, or fit the agent to the new order by name (surgery)",
    ),
    "action_gain": Cause(
        "that action {first!r} moves things {size:.2g} times as much",
        "the drive is weaker or stronger, or its load heavier or lighter; identify it, or randomize actuator/strength and "
        "masses in the source",
        WORLD,
    ),
    "delay": Cause(
        "a delay of {size:g} control steps",
        "{source} did not have it in its loop; randomize latency in the source, or show the agent a history of its actions",
    ),
    "sensor_reversed": Cause(
        "that observation {first!r} is reversed",
        "the sensor is mounted the other way round, or its sign convention differs; reverse it back",
    ),
    "sensors_swapped": Cause(
        "that the observations {first!r} and {second!r} are swapped",
        "two readings have changed places; wire them back, or fit the agent to the new order by name (surgery)",
    ),
    "sensor_offset": Cause(
        "that observation {first!r} is offset by {size:+.2g}",
        "the sensor's zero has moved; calibrate it, move the statistics with adaptive_normalization, or randomize "
        "observation/bias in the source",
    ),
    "sensor_gain": Cause(
        "that observation {first!r} reads {size:.2g} times as much",
        "the sensor has another unit or gain; convert it, or use linear_alignment or adaptive_normalization",
    ),
    "dynamics": Cause(
        "other dynamics of {first!r}",
        "masses, friction or contacts differ, and neither wiring nor sensors explain it; randomize them in the source, or "
        "learn in both with darc",
        WORLD,
    ),
}


# Where the share of a hypothesis was seen, and what it is a share of: with `source`.
SHARES = {
    "model_cause": "what a model of {source} gets wrong on the target",
    "early_cause": "what a model of {source} gets wrong in the first steps of episodes on the target",
    "start_cause": "what is unusual about first observations (episodes should begin as in {source})",
}


def causes(one: Facts) -> dict[str, float]:
    """Return hypothesis -> share, from one seed's evidence: what all steps, first steps and first observations say together.

    First steps tell how a robot is wired; where a weaker drive fits them best, heavier masses may, too, and all steps decide.
    Initial states depend neither on the agent nor on the dynamics: where first observations are unusual, only what explains
    them counts, by the mean of both shares; what they speak against is none. Gains within 20 % of 1 do no harm, however well
    they explain errors.
    """
    early, starts = one.get("early_cause") or {}, one.get("start_cause") or {}
    if max(early, key=early.__getitem__, default="").startswith("action_gain/"):
        early = {}
    shares = {name: max(share, early.get(name, 0.0)) for name, share in {**early, **one["model_cause"]}.items()}
    if max(starts.values(), default=0.0) > 0.0:
        found = {name: (share + shares.get(name, 0.0)) / 2 for name, share in starts.items() if share > 0.0}
    else:
        found = {name: share for name, share in shares.items() if name not in starts}
    return {
        name: share
        for name, share in found.items()
        if not name.partition("/")[0].endswith("_gain") or _matters(one, name)
    }


def _matters(facts: Facts, gain: str) -> bool:
    return abs(log(max(_size(facts, gain, inf), 1e-3))) > log(GAIN)


def _size(facts: Facts, hypothesis: str, unknown: float = 1.0) -> float:
    sizes = [facts[f"{key}_size"] for key in SHARES if hypothesis in facts.get(f"{key}_size", {})]
    return sizes[0][hypothesis] if sizes else unknown


def likely(facts: Facts) -> str | None:
    """Return the single fault that explains most, if any: hypotheses exclude each other.

    What explains nearly as much without a size to fit is likelier. Dynamics are the remainder that nothing else explains.
    """
    (_, high), shares = NORMAL["model_cause"], facts.get("causes", {})
    found = [name for name, share in shares.items() if share > high and name.partition("/")[0] in CAUSES]

    def credit(name: str) -> float:
        kind = name.partition("/")[0]
        return shares[name] + 0.1 * kind.endswith(("reversed", "swapped")) - 1.0 * (kind == "dynamics")

    return max(found, key=credit, default=None)


def _cause(verdict: "Verdict", facts: Facts) -> Iterator[Reason]:
    (_, high), hypothesis = NORMAL["model_cause"], likely(facts)
    if hypothesis is None:
        return
    kind, _, place = hypothesis.partition("/")
    cause, (first, _, second) = CAUSES[kind], place.partition("+")
    told = {"first": first, "second": second, "size": _size(facts, hypothesis), "source": facts["source"]}
    supposed = ALIKE.get(place) or cause.supposed.format(**told)
    share, where = max((facts.get(key, {}).get(hypothesis, 0.0), what) for key, what in SHARES.items())
    share = max(share, facts["causes"][hypothesis])  # signals may tell in different seeds
    says = f"To suppose {supposed} explains {share:.0%} of {where.format(**told)}: {cause.means.format(**told)}."
    yield Reason(kind, share, says, min(share / high, STRONGEST), -1, cause.depth)


def _start_shift(verdict: "Verdict", facts: Facts) -> Iterator[Reason]:
    shift, (_, high) = farthest(facts.get("start_shift")), NORMAL["start_shift"]
    if shift is None or abs(shift[1]) <= high or _of_sensors(facts):
        return
    where, value = shift
    says = (
        f"Observation {where!r} begins episodes {abs(value):.1f} standard deviations away from where it began them in "
        f"{facts['source']}, before any action: its zero, sign or unit has changed, or episodes start elsewhere; calibrate it, or "
        "move the statistics with adaptive_normalization."
    )
    yield Reason("sensor_offset", value, says, min(abs(value) / high, STRONGEST), -1, WIRING)


# From here on a ratio of spreads says that the source's is next to nothing, and what does not vary tells no gain.
CONSTANT = 100.0


def _start_scale(verdict: "Verdict", facts: Facts) -> Iterator[Reason]:
    scale, (_, high) = farthest(facts.get("start_scale")), NORMAL["start_scale"]
    if scale is None or abs(scale[1]) <= high or _of_sensors(facts):
        return
    where, value = scale
    if exp(value) > CONSTANT:
        says = (
            f"Observation {where!r} spreads {exp(value):.2g} times as wide at the start of episodes as in {facts['source']}, where it "
            "hardly varied: the sensor is noisy, or episodes start otherwise; randomize observation/noise in the source."
        )
        yield Reason("sensor_noise", value, says, min(value / high, STRONGEST), -1, WORLD)
        return
    says = (
        f"Observation {where!r} spreads {exp(value):.2g} times as wide at the start of episodes as in "
        f"{facts['source']}, before any action: the sensor has another unit or gain, or episodes start elsewhere; "
        "convert it, or use linear_alignment or adaptive_normalization."
    )
    yield Reason("sensor_gain", value, says, min(abs(value) / high, STRONGEST), -1, WIRING)


def _of_sensors(facts: Facts) -> bool:
    """Whether a fault of some sensor explains what is seen."""
    return (likely(facts) or "").startswith("sensor")


def _outside(verdict: "Verdict", facts: Facts) -> Iterator[Reason]:
    """Known parameters of the target that the source never had: the farthest three are named."""

    def distance(name: str) -> float:
        value, low, high = outside[name][:3]
        room = high - low + 0.1 * max(abs(low), abs(high))
        beyond = max(low - value, value - high)
        return min(beyond / room, STRONGEST) if room > 0.0 else STRONGEST

    outside: Mapping[str, tuple[float, float, float, str]] = facts.get("outside", {})
    far = sorted((name for name in outside if distance(name) >= 1.0), key=lambda name: (-distance(name), name))[:3]
    if not far:
        return
    told = [
        f"{name} is {value:g}{f' {unit}' if unit not in ('', '1') else ''} ({_range(low, high)} where it learned)"
        for name, (value, low, high, unit) in ((name, outside[name]) for name in far)
    ]
    says = (
        f"On the target {', '.join(told)}: the agent never met such worlds; randomize {' and '.join(far)} in the source so that "
        "the target lies within."
    )
    yield Reason("parameters_outside", outside[far[0]][0], says, distance(far[0]), -1, WORLD)


def _range(low: float, high: float) -> str:
    return f"{low:g}" if low == high else f"{low:g} to {high:g}"


def _mmd(verdict: "Verdict", facts: Facts) -> Iterator[Reason]:
    distance, p, (_, high) = facts.get("mmd"), facts.get("mmd_p"), NORMAL["mmd"]
    if distance is None or distance <= high or (p is not None and p > 0.05):
        return
    says = (
        f"The states of the target lie {distance:.2f} (squared MMD) from those of {facts['source']}: the agent visits other "
        "places there, which is harmless where it is a symmetry; importance_weighting or mmd bring them together."
    )
    yield Reason("mmd", distance, says, min(distance / high, STRONGEST))


RESPONSE = (
    "With the same actions in the same states {where!r} changes {value:.2g} times as much on the target as a model of {source} "
    "foresees: masses, friction or contacts differ, or drives are weaker or stronger; randomize them in the source, or learn in "
    "both with darc."
)

RULES: tuple[Rule, ...] = (
    _cause,
    Beyond(
        "model_response",
        *2 * (RESPONSE,),
        depth=WORLD,
        name="dynamics",
        unless=likely,
    ),
    _start_shift,
    _start_scale,
    Beyond(
        "reward_correlation",
        below="A model of the reward of {source} correlates by {value:+.2f} with the rewards of the target: what was good is "
        "bad here, the reward is reversed; check its sign, and do not copy the policy head or the critic.",
        depth=WIRING,
        name="reward_reversed",
        unless=_of_sensors,  # by which rewards are foreseen
    ),
    _outside,
    Beyond(
        "model_residual",
        above="A model of one step in {source} errs {value:.0f} times as much in {where!r} on the target as at home, the most of "
        "all observations: that is what moves in another way there; randomize what drives it in the source, or learn in both "
        "with darc.",
    ),
    Beyond(
        "reward_residual",
        above="A model of the reward of {source} errs {value:.1f} times as much on the target as at home: the target rewards "
        "something else; draw the critic anew, or check the reward's terms and units.",
        depth=WORLD,
    ),
    Beyond(
        "advantage_correlation",
        below="The source critic's values correlate by {value:+.2f} with the target's reward-to-go: it advises against what "
        "pays; draw the critic anew or use critic_warmup.",
    ),
    Beyond(
        "normalizer_shift",
        above="Observation {where!r} moved by {value:.1f} source standard deviations on the target, the most of all fields: the "
        "network sees inputs it was not trained on; adapt the normalizer (adaptive_normalization) or randomize what "
        "moves it.",
    ),
    Beyond(
        "delta_r",
        above="Classifiers of the domain (DARC) give the target's steps {value:+.1f} nats: they would hardly happen in "
        "{source}; learn in both with darc, or identify the target's parameters.",
    ),
    Beyond(
        "a_distance",
        above="A classifier tells target states from those of {source} with an A-distance of {value:.2f} (0 the same, 2 at a "
        "glance): the agent visits other places there, which is harmless where it is a symmetry; dann or coral bring "
        "features together.",
        points=0,
    ),
    _mmd,
)
