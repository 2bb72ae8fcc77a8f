"""What the agent brings along: its critic, its policy, its network, and whether it is still the one that was trained."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from simreal.diagnostics.reasons.base import ABILITY, AGENT, STRONGEST, Beyond, Facts, Reason, Rule
from simreal.diagnostics.reasons.normal import NORMAL

if TYPE_CHECKING:
    from simreal.diagnostics.verdict import Verdict

FLAT = 0.05  # of the return scale: the end is hardly above the mean of the curve


def _fingerprint(verdict: "Verdict", facts: Facts) -> Iterator[Reason]:
    """The first part, in the order of the data, that does not compute what it computed when the agent was saved."""
    _, high = NORMAL["fingerprint_change"]
    changes = facts.get("fingerprint_change", {})
    where = next((name for name, change in changes.items() if change > high), None)
    if where is None:
        return
    change = changes[where]
    if where == "normalizer":
        says = (
            f"On the agent's own experience its normalizer differs by {change:.0%} from what it gave when it was saved: the "
            "observation statistics were lost or replaced; load the whole bundle, or measure them anew "
            "(fine_tune with normalizer: reestimate)."
        )
        yield Reason("normalizer_lost", change, says, STRONGEST, -1, AGENT)
    else:
        says = (
            f"On the agent's own experience layer {where!r} differs by {change:.0%} from what it gave when it was saved, and "
            "all before it are intact: its weights were damaged or replaced; load the bundle again, or draw this "
            "layer anew (surgery)."
        )
        yield Reason("layer_changed", change, says, STRONGEST, -1, AGENT)


def _critic_bias(verdict: "Verdict", facts: Facts) -> Iterator[Reason]:
    bias, (_, high) = facts.get("critic_bias"), NORMAL["critic_bias"]
    if bias is None or abs(bias) < high * verdict.scale:
        return
    direction = "over" if bias > 0.0 else "under"
    says = (
        f"At the handover the source critic {direction}estimates the target's return by {abs(bias):.3g}, "
        f"{abs(bias) / verdict.scale:.0%} of its scale: early advantages carry the wrong level; use critic_warmup."
    )
    yield Reason("critic_bias", bias, says, min(abs(bias) / (high * verdict.scale), STRONGEST), -1)


def _policy_kl(verdict: "Verdict", facts: Facts) -> Iterator[Reason]:
    rise, (_, high) = facts.get("policy_kl_rise"), NORMAL["policy_kl_rise"]
    if rise is None or rise < high:
        return
    begin, end = facts["policy_kl"], facts["policy_kl"] + rise
    seen = f"The policy's KL divergence from {facts['source']} grew from {begin:.2g} to {end:.2g} nats"
    if verdict.final_return.value - verdict.area_transfer.value < FLAT:
        says = (
            f"{seen} while the return did not rise ({verdict.final_return.value:.2f} at the end, "
            f"{verdict.area_transfer.value:.2f} on average): it moves without learning; lower the learning rate "
            "(layerwise_lr) or warm up the critic (critic_warmup)."
        )
        yield Reason("policy_kl_flat", end, says, min(rise / high, STRONGEST), -1)
    else:
        says = (
            f"{seen}: the target needs other actions than {facts['source']}; copying less (top_layers), or a source "
            "randomized over the target's parameters, may help."
        )
        yield Reason("policy_kl", end, says, min(rise / high, STRONGEST) / 2, -1)


def _gradient_conflict(verdict: "Verdict", facts: Facts) -> Iterator[Reason]:
    cosine, (low, _) = facts.get("gradient_conflict"), NORMAL["gradient_conflict"]
    if cosine is None or cosine >= low:
        return
    rate = facts.get("gradient_conflict_rate")
    often = f" and are opposed in {rate:.0%} of the batches" if rate is not None else ""
    says = (
        f"The policy gradients of {facts['source']} and of the target have a cosine of {cosine:+.2f} on average{often}: "
        "what helps here hurts there; expect forgetting, or keep both with pcgrad or source_replay."
    )
    yield Reason("gradient_conflict", cosine, says, min(cosine / low, STRONGEST), -1)


RULES: tuple[Rule, ...] = (
    _fingerprint,
    Beyond(
        "critic_explained_variance",
        below="At the handover the source critic explains {value:+.1f} of the target's return variance (1 is perfect, "
        "below 0 is worse than a constant): the first updates can push the policy the wrong way; use critic_warmup or "
        "re-initialize the critic.",
    ),
    Beyond(
        "critic_explained_variance",
        above="At the handover the source critic explains {value:.2f} of the target's return variance: the first updates "
        "have a useful baseline; keep the critic.",
        points=+1,
    ),
    _critic_bias,
    Beyond(
        "advantage_sign_agreement",
        below="The sign of the critic's advantage is right in {value:.0%} of the target's steps (a coin is in 50%): it does not "
        "know what pays here; use critic_warmup, or draw the critic anew.",
    ),
    Beyond(
        "action_saturation",
        above="At the handover {value:.0%} of the actions sit at their limits: saturated outputs explore and correct little; "
        "draw the policy head anew (linear_probe) or raise its standard deviation.",
        depth=ABILITY,
    ),
    Beyond(
        "policy_std",
        below="The policy is handed over with a spread of {value:.3f} (standard deviation on actions in [-1, 1]; of choices the "
        "share of the largest entropy): it hardly explores the target; raise its exploration noise or add an entropy bonus.",
    ),
    Beyond(
        "policy_entropy_change",
        below="The policy's entropy changed by {value:+.1f} nats per action while it learned: it settled early and no longer "
        "explores; add an entropy bonus or a shorter budget.",
    ),
    _policy_kl,
    Beyond(
        "plasticity",
        above="Trained on random targets, the agent's network is left with {value:.1f} times the loss of a fresh one: it has "
        "lost the ability to learn; draw the last layers anew (top_layers with surgery) or begin with reset_distill.",
        depth=ABILITY,
    ),
    Beyond(
        "dormant_units",
        above="In layer {where!r} {value:.0%} of the units are dormant on the target (hardly ever active): that capacity is "
        "lost to learning; draw the layer anew (surgery) or lower the learning rate.",
    ),
    Beyond(
        "saturated_units",
        above="In layer {where!r} {value:.0%} of the tanh outputs are saturated on the target: gradients hardly pass it; check "
        "the scale of the observations (fine_tune with normalizer: reestimate) or draw the layer anew (surgery).",
    ),
    Beyond(
        "effective_rank_kept",
        below="The effective rank of layer {where!r} fell to {value:.0%} of what it was at the handover: its features "
        "collapsed; lower the learning rate or hold the weights with l2sp.",
    ),
    Beyond(
        "cka_end",
        below="At the end the features of layer {where!r} have a similarity of {value:.2f} (CKA, 1 is equal) with those of "
        "{source}: they were not reused but replaced; copy less (top_layers) or train the lower layers slowly "
        "(layerwise_lr).",
    ),
    Beyond(
        "feature_drift_end",
        above="At the end the features of layer {where!r} have moved by {value:.1f} times their size: what {source} taught "
        "was overwritten; train it slowly (layerwise_lr) or later (gradual_unfreeze).",
    ),
    Beyond(
        "drift_end",
        above="The weights of {where!r} moved by {value:.0%} of their size while the target was learned: little of {source} "
        "is left there; hold them with l2sp or ewc, or lower the learning rate.",
    ),
    Beyond(
        "fisher_drift",
        above="At the handover the weights of {where!r} differ from those of {source} by {value:.2g} where they mattered most "
        "(Fisher information): the strategy gives up what was learned; copy more of the agent, or hold it with ewc.",
    ),
    _gradient_conflict,
)
