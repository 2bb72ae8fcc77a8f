"""How the report says things: numbers, verdicts, and the sentence that answers "did transfer help?"."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeGuard

CONTROL, NO_SOURCE = "scratch", "none"
VERDICTS = ("positive", "neutral", "negative", "inconclusive")
# Shape says the same as colour, for readers who cannot tell the colours apart.
SYMBOLS = {"positive": "▲", "neutral": "■", "negative": "▼", "inconclusive": "?"}
NOTHING = "\N{EN DASH}"
DECISIONS = ("area", "too_few_seeds", "multiplicity")  # reasons that say how the verdict was taken, not why it is so

# name, what it says, how it is computed
GLOSSARY = [
    (
        "Normalized return",
        "0 is what a random policy earns on the target, 1 what the reference earns; effects are in these units.",
        "(return - random) / (reference - random), with both measured on the same evaluation episodes.",
    ),
    (
        "Area",
        "How much better the whole learning curve is than scratch's; the verdict rests on it.",
        "Mean over the target budget of the normalized return, minus the same of scratch (trapezoidal rule).",
    ),
    (
        "Jumpstart",
        "The head start: how much better the agent is before its first update on the target.",
        "Normalized return at step 0, minus that of scratch.",
    ),
    (
        "Asymptotic",
        "Whether the gain lasts: the difference at the end of the budget.",
        "Normalized return over the last tenth of the budget, minus that of scratch.",
    ),
    (
        "Final return",
        "What the agent earns at the end, in the task's own reward.",
        "Mean return of the evaluation episodes over the last tenth of the budget, over seeds.",
    ),
    (
        "Time to threshold",
        "How many steps of target experience transfer saves until the agent is good; below 0 it loses time.",
        "First time at or above the threshold, scratch minus transfer; a seed that never gets there counts the budget.",
    ),
    (
        "Transfer ratio",
        "The area effect relative to what scratch achieves: +0.5 is half as much again.",
        "(area of transfer - area of scratch) / area of scratch, on normalized returns only.",
    ),
    (
        "Forgetting",
        "What learning the target cost on the source, or in a step of a sequence on the target before; 0 is nothing.",
        "Normalized return there before the transfer, minus the same after it; of several sources, on the first.",
    ),
    (
        "Forgetting in a sequence",
        "What a sequence of targets costs those that came early, from when each was learned to the end; 0 is nothing.",
        "Normalized return after a target's own step minus that at the end, mean over all targets, of which the last loses 0.",
    ),
    (
        "Backward transfer",
        "What a sequence of targets costs (below 0) or gives the earlier ones, from when each was learned to the end.",
        "Mean over all targets but the last of the normalized return at the end minus that after its own step.",
    ),
    (
        "Zero-shot transfer",
        "What the targets before give the next one of a sequence before it is learned.",
        "Mean over all targets but the first of the normalized return before its step minus that of fresh weights.",
    ),
    (
        "Forward transfer",
        "The share of what scratch leaves to gain that the targets before give; 1 is perfect, below 0 they hurt.",
        "(area - area of scratch) / (1 - area of scratch), mean over the targets of a sequence.",
    ),
    (
        "Probability of improvement",
        "How often a transferred run beats a run from scratch; 50 % is a coin toss.",
        "Mann-Whitney U / (n m) over all pairs of seeds, ties counted half.",
    ),
    (
        "Verdict",
        "▲ positive: above the margin. ▼ negative: below it. ■ neutral: inside it. ? inconclusive: cannot say yet.",
        "Where the whole bootstrap interval of the area effect lies, against scratch with the same seeds and budget; of several "
        "verdicts, what Holm's procedure lets stand.",
    ),
]


class Outcome(NamedTuple):
    """What transfer did on one target, judged by its best arm."""

    target: str
    verdict: str
    best: Mapping[str, Any]
    says: str


def present(value: Any) -> TypeGuard[float]:
    """Return whether there is a number to show: None, nan and infinities are none."""
    return value is not None and math.isfinite(value)


def number(value: float | None) -> str:
    """Return `value` to three or four significant digits ("0.021", "12.3", "1,234"), a dash where there is none."""
    if not present(value):
        return NOTHING
    value = value or 0.0  # -0.0 is none below it
    size = abs(value)
    if size >= 100:
        return f"{value:,.0f}"
    if 0 < size < 1e-3:
        return f"{value:.2g}"
    digits = 3 if size < 0.1 else 2 if size < 10 else 1
    return f"{value:.{digits}f}".rstrip("0").rstrip(".")


def percent(share: float, unit: str = " %") -> str:
    """Return a share in whole percent ("72 %"); "> 99 %" and "< 1 %" where rounding would make it sure."""
    if 0.995 <= share < 1.0:
        return f"> 99{unit}"
    return f"< 1{unit}" if 0.0 < share < 0.005 else f"{100 * share:.0f}{unit}"


def signed(value: float | None) -> str:
    """Return an effect in normalized return with its sign and two digits ("+0.31"), a dash where there is none."""
    return f"{value:+.2f}" if present(value) else NOTHING


def steps(value: float | None, sign: str = "") -> str:
    """Return a count of environment steps ("850", "14.2k", "1.5M"), a dash where there is none.

    Args:
        sign: "+" for a difference, which then always shows its sign.
    """
    if not present(value):
        return NOTHING
    for unit, scale in (("B", 1e9), ("M", 1e6), ("k", 1e3)):
        if abs(value) >= 0.9995 * scale:  # 999,999 is 1M, not 1e+03k
            return f"{value / scale:{sign}.3g}{unit}"
    return f"{value:{sign}.0f}"


def steps_saved(value: float | None) -> str:
    """Return a difference of environment steps with its sign ("+14.2k"), a dash where there is none."""
    return steps(value, "+")


def interval(effect: Mapping[str, float | None] | None, say: Callable[[float | None], str] = signed) -> str:
    """Return "+0.31 [+0.22, +0.40]"; only the value where there is no interval, a dash where there is nothing."""
    if not effect or not present(effect.get("value")):
        return NOTHING
    low, high = effect.get("low"), effect.get("high")
    return say(effect["value"]) + (f" [{say(low)}, {say(high)}]" if present(low) and present(high) else "")


def main_reason(arm: Mapping[str, Any]) -> str:
    """Return the sentence that explains the arm's verdict best, or an empty string.

    The first reason of a clear verdict only repeats the area that stands beside it; the next one says why.
    """
    reasons = arm.get("reasons") or []
    if arm["verdict"] in ("positive", "negative"):
        reasons = [reason for reason in reasons if reason["name"] not in DECISIONS] or reasons
    return reasons[0]["says"] if reasons else ""


def main_reasons(report: Mapping[str, Any]) -> dict[str, str]:
    """Return whose main reason is what: "heavy, fine_tune and frozen_encoder" -> the sentence, which is said once."""
    arms = compared(report)
    shared: dict[str, list[Mapping[str, Any]]] = {}
    for arm in arms:
        shared.setdefault(main_reason(arm), []).append(arm)
    return {_together(those, arms): says for says, those in shared.items()}


def _together(those: Sequence[Mapping[str, Any]], arms: Sequence[Mapping[str, Any]]) -> str:
    """Name some of all arms by target; targets of which these are all stand first and together."""
    by_target = {
        target: [a for a in those if a["target"] == target] for target in dict.fromkeys(a["target"] for a in those)
    }
    whole = [t for t, found in by_target.items() if 1 < len(found) == sum(a["target"] == t for a in arms)]
    names = {t: listing([arm_name(a, arms) for a in found]) for t, found in by_target.items() if t not in whole}
    everywhere = [f"{listing(whole)}, all strategies"] if whole else []
    return "; ".join([*everywhere, *(f"{target}, {of}" for target, of in names.items())])


def compared(report: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the arms that were compared with the control, which is none of them."""
    return [arm for arm in report.get("arms") or [] if arm["strategy"] != report.get("control", CONTROL)]


def outcomes(report: Mapping[str, Any]) -> list[Outcome]:
    """Return one Outcome per target, in the order of the report.

    Transfer helps on a target when some arm is positive, and hurts when none is and some arm is negative.
    """
    by_target: dict[str, list[Mapping[str, Any]]] = {}
    for arm in compared(report):
        by_target.setdefault(arm["target"], []).append(arm)
    return [_outcome(target, arms) for target, arms in by_target.items()]


def arm_name(arm: Mapping[str, Any], arms: Iterable[Mapping[str, Any]]) -> str:
    """Return the strategy of an arm, with its source where `arms` have several."""
    several = len({each["source"] for each in arms} - {NO_SOURCE}) > 1 and arm["source"] != NO_SOURCE
    return arm["strategy"] + (f" from {sources(arm)}" if several else "")


def sources(arm: Mapping[str, Any]) -> str:
    """Return the sources of an arm as "a", "a and b" or "a, b and c"; empty where it begins without a source agent."""
    return "" if arm["source"] == NO_SOURCE else listing(arm["source"].split("+"))


def origin(arm: Mapping[str, Any]) -> str:
    """Return where an arm begins and who teaches it: "from a and b, taught by c"."""
    parts = [f"from {sources(arm)}" if sources(arm) else "without a source agent"]
    return ", ".join([*parts, f"taught by {arm['teacher']}"] if arm.get("teacher") else parts)


def scales(report: Mapping[str, Any]) -> dict[str, str]:
    """Return what scores of games are told on, in which words; nothing where no arm has a score."""
    known = {"raw": "of the game", "human_normalized": "human-normalized", "random_normalized": "random-normalized"}
    found = {name for arm in compared(report) for name in arm.get("score") or {}}
    return {name: says for name, says in known.items() if name in found}


def score(of: Mapping[str, Mapping[str, float | None]]) -> str:
    """Return the score of a game, as "17.2 (0.58 human)" where it is known what a human earns, who has 1 then."""
    human = of.get("human_normalized")
    return number(of["raw"]["value"]) + (f" ({number(human['value'])} human)" if human else "")


def bridge(of: Mapping[str, str] | None) -> str:
    """Return in which terms a game is shown and played: "channels union, actions native"; "native" where nothing is bridged."""
    return ", ".join(f"{what} {terms}" for what, terms in of.items()) if of else "native"


def recipes(report: Mapping[str, Any]) -> dict[str, str]:
    """Return what the strategies are whose names do not say it: their parts and settings."""
    names = [arm["strategy"] for arm in compared(report)]
    return {name: says for name, says in (report.get("strategies") or {}).items() if name in names and says != name}


def remarks(report: Mapping[str, Any]) -> list[str]:
    """Return the sentences about the verdicts as a whole: what taking them at once changed, what was done to the data."""
    return [one for one in ((report.get("multiplicity") or {}).get("says"), *(report.get("notes") or [])) if one]


def _outcome(target: str, arms: Sequence[Mapping[str, Any]]) -> Outcome:
    found = {arm["verdict"] for arm in arms}
    verdict = next((v for v in ("positive", "negative", "neutral") if v in found), "inconclusive")
    best = max((arm for arm in arms if verdict != "positive" or arm["verdict"] == verdict), key=_area)
    hurts = [arm_name(arm, arms) for arm in arms if arm["verdict"] == "negative"]
    size = f"{arm_name(best, arms)} at {interval(best.get('area'))}"
    harm = f"{listing(hurts)} {'hurts' if len(hurts) == 1 else 'hurt'}"
    if verdict == "positive":
        says = f"best is {size}" + (f"; {harm}" if hurts else "")
    elif verdict == "negative" and len(arms) > 1:
        says = f"{'every strategy hurts' if len(hurts) == len(arms) else harm}; the least bad is {size}"
    else:
        says = f"{'the best is ' if len(arms) > 1 else ''}{size}"
    return Outcome(target, verdict, best, says)


def _area(arm: Mapping[str, Any]) -> float:
    value = (arm.get("area") or {}).get("value")
    return value if present(value) else -math.inf


def headline(report: Mapping[str, Any]) -> str:
    """Return the sentence that answers whether transfer helped, and where."""
    found = outcomes(report)
    if not found:
        return "There is nothing to compare yet: the experiment has no transfer arm."
    deeds = {"positive": "helps", "negative": "hurts", "neutral": "makes no difference", "inconclusive": "is undecided"}
    parts = []
    for verdict, deed in deeds.items():
        names = [outcome.target for outcome in found if outcome.verdict == verdict]
        if names:
            where = listing(names) if len(found) <= 6 else f"{len(names)} of {len(found)} targets"
            parts.append(f"{deed} on {where}")
    return f"Transfer {listing(parts, comma=len(parts) > 1)}."


def listing(items: Sequence[str], comma: bool = False) -> str:
    """Return "a", "a and b" or "a, b and c"; with `comma` one stands before "and" too, for long items."""
    items = list(items)
    if len(items) < 2:
        return "".join(items)
    return f"{', '.join(items[:-1])}{',' * comma} and {items[-1]}"
