"""What is different on the target: how the robot is wired, its dynamics, its reward, where it is."""

from collections.abc import Iterator, Mapping
from math import exp, inf, log
from typing import TYPE_CHECKING, NamedTuple

from simreal.diagnostics.reasons.base import STRONGEST, WIRING, WORLD, Beyond, Facts, Reason, Rule, farthest
from simreal.diagnostics.reasons.normal import NORMAL

if TYPE_CHECKING:
    from simreal.diagnostics.verdict import Verdict


GAIN = 1.2  # a factor that matters
SEEN_AT_START = 0.6  # standard deviations: what null transfers stay below


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


def _model_cause(verdict: "Verdict", facts: Facts) -> Iterator[Reason]:
    """The single fault that explains most of what a model of the source gets wrong: hypotheses exclude each other."""
    (_, high), shares = NORMAL["model_cause"], facts.get("model_cause", {})
    likely = [name for name, share in shares.items() if share > high and name.partition("/")[0] in CAUSES]
    if not likely:
        return
    hypothesis = max(likely, key=lambda name: _credit(name, facts))
    kind, _, place = hypothesis.partition("/")
    cause, (first, _, second) = CAUSES[kind], place.partition("+")
    size = facts.get("model_cause_size", {}).get(hypothesis, 1.0)
    told = {"first": first, "second": second, "size": size, "source": facts["source"]}
    supposed = ALIKE.get(place) or cause.supposed.format(**told)
    says = (
        f"To suppose {supposed} explains {shares[hypothesis]:.0%} of what a model of {facts['source']} "
        f"gets wrong on the target: {cause.means.format(**told)}."
    )
    yield Reason(kind, shares[hypothesis], says, min(shares[hypothesis] / high, STRONGEST), -1, cause.depth)


def _credit(hypothesis: str, facts: Facts) -> float:
    """What a hypothesis explains, as far as it is likely.

    What explains nearly as much without a size to fit is likelier. Initial states do not depend on the policy: an offset of a
    sensor whose first readings are the usual ones is less likely. Dynamics are the remainder that nothing else explains.
    """
    kind, _, place = hypothesis.partition("/")
    likely = 0.1 * kind.endswith(("reversed", "swapped")) - 1.0 * (kind == "dynamics")
    if kind == "sensor_offset" and abs(facts.get("start_shift", {}).get(place, inf)) < SEEN_AT_START:
        likely -= 0.3
    return facts["model_cause"][hypothesis] + likely


def mattering(facts: Facts) -> dict[str, float]:
    """Return the hypotheses about a target without gains within 20 % of 1: however well those explain errors, they do no harm."""
    sizes = facts.get("model_cause_size", {})

    def matters(hypothesis: str) -> bool:
        gain = hypothesis.partition("/")[0] in ("action_gain", "sensor_gain")
        return not gain or abs(log(max(sizes.get(hypothesis, inf), 1e-3))) > log(GAIN)

    return {name: share for name, share in facts.get("model_cause", {}).items() if matters(name)}


def _start_shift(verdict: "Verdict", facts: Facts) -> Iterator[Reason]:
    shift, (_, high) = farthest(facts.get("start_shift")), NORMAL["start_shift"]
    if shift is None or abs(shift[1]) <= high or _explained(facts, shift[0]):
        return
    where, value = shift
    says = (
        f"Observation {where!r} begins episodes {abs(value):.1f} standard deviations away from where it began them in "
        f"{facts['source']}, before any action: its zero, sign or unit has changed, or episodes start elsewhere; calibrate it, or "
        "move the statistics with adaptive_normalization."
    )
    yield Reason("sensor_offset", value, says, min(abs(value) / high, STRONGEST), -1, WIRING)


def _start_scale(verdict: "Verdict", facts: Facts) -> Iterator[Reason]:
    scale, (_, high) = farthest(facts.get("start_scale")), NORMAL["start_scale"]
    if scale is None or abs(scale[1]) <= high or _explained(facts, scale[0]):
        return
    where, value = scale
    says = (
        f"Observation {where!r} spreads {exp(value):.2g} times as wide at the start of episodes as in "
        f"{facts['source']}, before any action: the sensor has another unit or gain, or episodes start elsewhere; "
        "convert it, or use linear_alignment or adaptive_normalization."
    )
    yield Reason("sensor_gain", value, says, min(abs(value) / high, STRONGEST), -1, WIRING)


def _explained(facts: Facts, field: str) -> bool:
    """Whether a fault of this sensor is a likely hypothesis already."""
    shares = facts.get("model_cause", {})
    return any(
        hypothesis.startswith("sensor") and share > NORMAL["model_cause"][1] and field in hypothesis
        for hypothesis, share in shares.items()
    )


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
        f"{name} is {value:g}{f' {unit}' if unit not in ('', '1') else ''} ({_range(low, high)} in {facts['source']})"
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


RULES: tuple[Rule, ...] = (
    _model_cause,
    _start_shift,
    _start_scale,
    Beyond(
        "reward_correlation",
        below="A model of the reward of {source} correlates by {value:+.2f} with the rewards of the target: what was good is "
        "bad here, the reward is reversed; check its sign, and do not copy the policy head or the critic.",
        depth=WIRING,
        name="reward_reversed",
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
