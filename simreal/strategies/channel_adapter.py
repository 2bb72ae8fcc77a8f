"""`channel_adapter`: a learned 1x1 convolution in front of the source's encoder, for pictures with other channels."""

from __future__ import annotations

from dataclasses import dataclass

from simreal.strategies.base import Agent, Strategy, Target, Transferable
from simreal.strategies.settings import choice, switch


@dataclass(frozen=True)
class ChannelAdapter(Strategy):
    """Put a 1x1 convolution from the target's channels to the source's in front of the agent's encoder, then train.

    For games whose channels mean nothing to each other. Of the action head what the target names as the source does is
    copied, the rest begins as the mean of that.

    Attributes:
        freeze_encoder: whether the source's encoder stands still behind it.
        init: ``"identity"`` begins with the channels as they are, by position; ``"uniform"`` with the mean of all in each.
    """

    freeze_encoder: bool = switch(False)
    init: str = choice("identity", ("identity", "uniform"), "init")

    name = "channel_adapter"
    says = "learns a 1x1 convolution from the target's channels to the source's"
    family = "network surgery"
    refits = True
    sequential = False

    @property
    def decides(self) -> frozenset[str]:  # type: ignore[override]
        frozen = {"what is frozen", "the normalizer"} if self.freeze_encoder else set()
        return frozenset({"what is copied", "the network"} | frozen)

    def begin(self, agent: Agent | None, target: Target) -> Transferable:
        from simreal_agents.adapter import adapted
        from simreal_agents.additions.depth import stand_still

        worlds = target.worlds(target.domain.seen_by(agent.card.get("domain")))
        there = adapted(agent, worlds.schema, self.init)
        learner = target.learner(there, worlds=worlds)
        if self.freeze_encoder:
            names = [name for name, _ in learner.policy.named_parameters() if name.startswith("encoder.")]
            stand_still(learner, [name for name in names if ".adapters." not in name])
            learner.freeze([], normalizer="keep")
        if "surgery" in there.card:
            learner.notes["surgery"] = there.card["surgery"]
        return learner
