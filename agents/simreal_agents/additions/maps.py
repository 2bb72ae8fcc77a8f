"""Linear maps from what the target shows to what a source agent knows, and how they become part of its first layer.

They are estimated from states alone, in columns of unit variance, in float64. A map is as good as the assumption behind it:
that source and target states would be distributed alike if the target's sensors were the source's. Where the agent fails in
the target its states differ for that reason, and the map bends what was right.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from simreal_agents.additions import Addition
from simreal_agents.networks import TOWERS
from simreal_envs.errors import UserError

if TYPE_CHECKING:
    from simreal_agents.additions import Experience
    from simreal_agents.optimizer import FlatAdam
    from simreal_agents.transferable import Transferable

ENOUGH = 10  # states per element of an observation, at least
STILL = 1e-6  # standard deviation below which a column counts as constant
APART = 0.5  # standard deviations between the means of source and target
RIDGE = 0.1  # added to covariances of unit variance, so that columns that tell the same do not blow up


@dataclass(frozen=True)
class Affine:
    """Rows ``x (n, d)`` to ``x @ matrix.T + offset``, float64."""

    matrix: np.ndarray
    offset: np.ndarray

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        return rows @ self.matrix.T + self.offset


def transport(source: np.ndarray, target: np.ndarray) -> Affine:
    """The map that gives target states the mean and covariance of source states and moves them least.

    Between Gaussians it is the optimal transport ``A = T^-1/2 (T^1/2 S T^1/2)^1/2 T^-1/2`` with the covariances S of the
    source and T of the target (Dowson & Landau 1982; Peyre & Cuturi 2019, remark 2.31). Sensors with another offset and a
    positive gain each are undone, up to what `RIDGE` adds; a rotation is not, as states without pairs cannot tell it.

    Args:
        source, target: rows ``(n, d)`` and ``(m, d)``.
    """
    scale = _scale(source)
    ours, theirs = (_moments(rows / scale) for rows in (source, target))
    root = _power(theirs[1], 0.5)
    inverse = _power(theirs[1], -0.5)
    matrix = inverse @ _power(root @ ours[1] @ root, 0.5) @ inverse
    return _unscaled(matrix, ours[0] - matrix @ theirs[0], scale)


def careful_transport(source: np.ndarray, target: np.ndarray) -> Affine:
    """`transport`, drawn back towards the identity as far as chance explains how it moves states.

    States of a few episodes are few samples, however many they are. What the map between two halves of the source moves is
    chance; the share ``max(0, 1 - chance / found)`` of mean squared displacements is kept, as in the positive-part estimator
    of James & Stein (1961).

    Args:
        source: rows ``(2 n, d)``, the halves from different worlds.
        target: rows ``(n, d)``.
    """
    halves, found, scale = np.split(source, 2), transport(source, target), _scale(source)

    def displacement(moving: Affine, rows: np.ndarray) -> float:
        return float(np.square((moving(rows) - rows) / scale).mean())

    chance, all_of_it = displacement(transport(*halves), halves[1]), displacement(found, target)
    kept = max(0.0, 1 - chance / all_of_it) if all_of_it > 0 else 0.0
    identity = np.eye(source.shape[1])
    return Affine(identity + kept * (found.matrix - identity), kept * found.offset)


def transfer_components(source: np.ndarray, target: np.ndarray, mu: float) -> np.ndarray:
    """Directions ``(d, d)``, the most transferable first, one per column: linear transfer component analysis.

    Pan et al. (2011, IEEE TNN 22(2):199) look for directions of large variance in which both domains have nearly the same
    mean: with the linear kernel the leading eigenvectors of ``(X L X' + mu I)^-1 X H X'``, where ``X L X'`` is the outer
    product of the difference of the means, and ``X H X'`` the scatter of all states around their mean.

    Args:
        source, target: rows ``(n, d)`` and ``(m, d)`` in comparable units.
        mu: how much a difference of means is tolerated, over 0.
    """
    difference = source.mean(0) - target.mean(0)
    whitener = _power(np.outer(difference, difference) + mu * np.eye(source.shape[1]), -0.5)
    scatter = np.atleast_2d(np.cov(np.concatenate([source, target]), rowvar=False))
    values, vectors = np.linalg.eigh(whitener @ scatter @ whitener)
    return (whitener @ vectors)[:, np.argsort(-values)]


def components_only(source: np.ndarray, target: np.ndarray, components: int | None, mu: float) -> Affine:
    """The map that keeps the leading transfer components and fills in the rest from what it is in the source, given them.

    What is filled in is the best linear guess from source states, ``S W (W' S W)^-1 W'`` with their covariance S and the
    components W; all d components together are the identity.

    Args:
        components: how many are kept, 1 to d; None for all along which the means differ by less than `APART`.
        mu: see `transfer_components`.
    """
    scale = _scale(source)
    (mean, covariance), theirs = _moments(source / scale), (target / scale).mean(0)
    found = transfer_components(source / scale, target / scale, mu)
    kept = found[:, :components]
    if components is None:  # what hardly varies comes behind what is apart
        gaps = np.abs((theirs - mean) @ found) / np.sqrt(np.einsum("ik,ij,jk->k", found, covariance, found))
        kept = found[:, gaps <= max(APART, gaps.min())]
    matrix = covariance @ kept @ np.linalg.solve(kept.T @ covariance @ kept, kept.T)
    return _unscaled(matrix, mean - matrix @ mean, scale)


def _scale(rows: np.ndarray) -> np.ndarray:
    std = rows.std(axis=0, dtype=np.float64)
    return np.where(std > STILL, std, 1.0)


def _moments(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return rows.mean(0), np.cov(rows, rowvar=False) + RIDGE * np.eye(rows.shape[1])


def _power(matrix: np.ndarray, exponent: float) -> np.ndarray:
    """Of a symmetric positive matrix."""
    values, vectors = np.linalg.eigh(matrix)
    return (vectors * values**exponent) @ vectors.T


def _unscaled(matrix: np.ndarray, offset: np.ndarray, scale: np.ndarray) -> Affine:
    return Affine(scale[:, None] * matrix / scale, scale * offset)


# ---- into the agent ---------------------------------------------------------------------------------------------------


@torch.no_grad()
def adapt_statistics(policy: Any, source: np.ndarray, target: np.ndarray) -> None:
    """Change an agent's observation statistics as the statistics of the states have changed, element by element.

    Mean and variance become those of the target wherever the source's states have those that the agent knows (Li et al.
    2016, arXiv:1603.04779); where both were seen for less than an episode, the same states are missing on both sides.

    Args:
        source, target: rows ``(n, size)``, seen at the same times of an episode.
    """
    normalizer, columns = policy.encoder.normalizer, policy.layout.vector
    (ours, our_std), (theirs, their_std) = ((r[:, columns].mean(0), r[:, columns].std(0)) for r in (source, target))
    moving = (our_std > STILL) & (their_std > STILL)
    gain = np.where(moving, their_std / np.where(moving, our_std, 1.0), 1.0)
    normalizer.mean.copy_(torch.from_numpy(theirs + gain * (normalizer.mean.numpy() - ours)))
    normalizer.var.mul_(torch.from_numpy(gain**2))


@torch.no_grad()
def fold(policy: Any, seen: Affine, source: np.ndarray, target: np.ndarray) -> None:
    """Let a policy take ``seen(x)`` for every observation x; target copies too.

    The observation statistics are adapted (`adapt_statistics`), and the first layers read what the new ones give as the old
    layers would have read ``seen(x)`` through the old ones, up to clipping.
    """
    layers = first_layers(policy)
    normalizer, size = policy.encoder.normalizer, policy.layout.size
    before = after = (np.zeros(size), np.ones(size))
    if normalizer.enabled:
        before = [part.double().numpy() for part in normalizer.shift_and_scale()]
        adapt_statistics(policy, source, target)
        after = [part.double().numpy() for part in normalizer.shift_and_scale()]
    matrix = torch.from_numpy(before[1][:, None] * seen.matrix / after[1])
    offset = torch.from_numpy(before[1] * (seen(after[0]) - before[0]))
    for weight, bias in layers:
        columns = weight[..., :size].double()
        bias += (columns @ offset).float()
        weight[..., :size] = (columns @ matrix).float()


def first_layers(policy: Any) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Weight ``(.., out, d + ..)`` and bias of every layer that reads normalized observations, of target copies too.

    Raises:
        UserError: where something else than linear layers reads them.
    """
    names = [f"{copy}encoder.{tower}.0" for copy in ("", "target.") for tower in TOWERS]
    tensors = policy.state_dict(keep_vars=True)
    found = [(tensors[f"{n}.weight"], tensors[f"{n}.bias"]) for n in names if f"{n}.weight" in tensors]
    if not found or policy.layout.images or getattr(policy, "columns", None) is not None:
        raise UserError("a linear map of observations needs an agent whose first layers read vectors")
    return found


class Survey(Addition):
    """Looks at the target before the agent learns there: the first states are collected, then one change is made.

    Until then all weights and the observation statistics stand still.

    Args:
        change: ``(policy, rows)``, once; the rows ``(n, size)`` are float64, step by step.

    Attributes:
        normalizer: whether the statistics follow the data from then on: ``"keep"`` or ``"update"``, as before by default.
    """

    turn, keeps = 1, ("done", "rows")

    def __init__(self, learner: Transferable, change: Callable[[Any, np.ndarray], None]):
        self.change, self.done = change, False
        self.rows = np.zeros((0, learner.policy.layout.size), learner.policy.layout.dtype)
        normalizer = learner.policy.encoder.normalizer
        self.normalizer = "keep" if normalizer.frozen else "update"
        learner.freeze([], normalizer="keep")

    def collected(self, learner: Transferable, experience: Experience) -> None:
        if not self.done:
            seen = experience.observations[:, experience.which == 0]
            self.rows = np.concatenate([self.rows, seen.reshape(-1, self.rows.shape[1])])

    def gradient(self, optimizer: FlatAdam) -> None:
        if not self.done:
            optimizer.gradients.zero_()
            self._before = optimizer.parameters.clone()

    def stepped(self, optimizer: FlatAdam) -> None:
        if not self.done:  # weight decay needs no gradient
            optimizer.parameters.copy_(self._before)

    def settle(self, learner: Transferable) -> None:
        """To be called between two rollouts when it is time: make the change, once there are enough states for it."""
        if self.done or len(self.rows) < ENOUGH * self.rows.shape[1]:
            return
        self.change(learner.policy, self.rows.astype(np.float64))
        self.done, self.rows = True, self.rows[:0]
        learner.freeze([], normalizer=self.normalizer)
        for name in learner.optimizer.names:
            learner.optimizer.reset_moments(name)
