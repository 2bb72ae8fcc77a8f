"""The normal range of every signal: beyond it, it is worth a sentence.

A range contains what null transfers show, in which nothing is wrong (their 1 % and 99 % quantiles are in
docs/results/reason_ranges.json, written by scripts/calibrate_reasons.py), and leaves room for harmless differences. They
decide what is said, never the label.
"""

from math import inf

NORMAL: dict[str, tuple[float, float]] = {
    # acting: policy, critic, normalizer
    "critic_explained_variance": (-0.5, 0.5),  # above: not worse but good
    "critic_bias": (-0.25, 0.25),  # of the target's return scale
    "advantage_sign_agreement": (0.5, 1.0),
    "advantage_correlation": (-0.2, inf),
    "action_saturation": (0.0, 0.5),  # share of actions
    "policy_std": (0.1, inf),  # actions span [-1, 1]
    "policy_kl_rise": (-inf, 2.0),  # nats, from handover to end
    "policy_entropy_change": (-1.0, inf),  # nats per action, from handover to end
    "normalizer_shift": (0.0, 1.0),  # source standard deviations
    # inside: the network, layer by layer
    "fingerprint_change": (0.0, 0.001),  # relative; an intact agent has 0
    "cka_end": (0.5, inf),
    "effective_rank_kept": (0.5, inf),  # end over handover
    "dormant_units": (0.0, 0.3),
    "saturated_units": (0.0, 0.9),
    "drift_end": (0.0, 0.5),  # of the source's weights
    "feature_drift_end": (0.0, 1.0),
    "fisher_drift": (0.0, 1.0),
    "plasticity": (0.0, 1.5),  # a fresh network has 1
    "gradient_conflict": (-0.2, inf),  # mean cosine
    # outside: experience against what the agent knew
    "a_distance": (-inf, 1.5),  # 0 the same, 2 told apart at a glance
    "mmd": (-inf, 0.3),
    "start_shift": (-2.0, 2.0),  # standard deviations
    "start_scale": (-1.0, 1.0),  # log ratio
    "model_residual": (0.0, 50.0),  # of the error on held-out source experience
    "model_cause": (0.0, 0.3),  # share of the excess error that goes away
    "model_response": (0.8, 1.25),  # size of changes, of those that the source's model foresees
    "delta_r": (-inf, 6.0),  # nats
    "reward_correlation": (-0.3, inf),  # below: reversed
    "reward_residual": (0.0, 3.0),
    # the comparison
    "forgetting": (-inf, 0.1),  # of the source's return scale
}
