"""What every learner of ours adds to SB3's algorithm: named groups, freezing, extra losses, own randomness, exact resume.

A learner is ``class PPO(Transferable, stable_baselines3.PPO)``. The mixin never looks inside an algorithm; the algorithm
says what it is called, which policy it trains, and what else decides its future.
"""

from __future__ import annotations

import math
import re
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from copy import copy
from inspect import signature
from numbers import Real
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from gymnasium.vector import VectorEnv
from stable_baselines3.common.callbacks import BaseCallback, ConvertCallback
from stable_baselines3.common.vec_env import VecEnv, VecTransposeImage, unwrap_vec_normalize

from simreal_agents.additions import Addition, Experience, adds
from simreal_agents.allocator import keep_freed_memory
from simreal_agents.encoders import Dropout
from simreal_agents.layout import Flattened, Layout, require_numbers
from simreal_agents.networks import MODULES, matching_groups, stream
from simreal_agents.optimizer import FlatAdam
from simreal_agents.products import at_work
from simreal_agents.vecenv import FlatVecEnv, SB3Worlds, Step
from simreal_envs.errors import Unsupported, UserError, nearest, require_a, require_known

GENERATORS = ("_noise", "_order", "_predictions")
MOST_SCALE = 10_000  # of a learning rate: what a config and a strategy may give, multiplied
LossTerm = Callable[[Any, dict[str, torch.Tensor]], torch.Tensor]
ProgressHook = Callable[[Any, float], None]
_NUMBER, _OTHER = re.compile(r"\b(int|float)\b"), re.compile(r"\b(str|Callable|Schedule|Sequence|Mapping)\b")


class Transferable:
    """Mixin before an SB3 algorithm class.

    Attributes:
        algorithm: what users type.
        policy_class_: the policy that this algorithm trains, for agents on disk.
        settings: names of the attributes that a card lists as hyperparameters.
        counters: names of the attributes, numbers or arrays, that decide the future besides what `training_state` lists.
        loss_terms: callables ``(policy, batch) -> scalar tensor`` added to the loss of every minibatch.
        progress_hooks: callables ``(learner, progress)`` run before every rollout, with progress in [0, 1).
        additions: what strategies have attached, by name.
        notes: what strategies want the agent's card to say, as JSON data.
        seconds: wall time in ``physics``, ``inference``, ``update`` and ``other``, summed over all ``learn`` calls.
        threads: that may share the products of updates, as they do where these are loops and nothing is left to autograd, nor
            to several threads of torch; None: as many as torch has. Results do not depend on it.
    """

    algorithm: ClassVar[str]
    policy_class_: ClassVar[type]
    settings: ClassVar[tuple[str, ...]]
    threads: int | None = None
    counters: ClassVar[tuple[str, ...]] = (
        "num_timesteps", "_episode_num", "_n_updates", "_last_obs", "_last_episode_starts",
        "_returns", "_lengths", "_keep_normalizer",
    )  # fmt: skip

    @property
    def policy_aliases(self) -> dict[str, type]:
        """SB3's names of policies: all are ours, which looks at the spaces itself."""
        return dict.fromkeys(("MlpPolicy", "CnnPolicy", "MultiInputPolicy"), self.policy_class_)

    def __init__(self, *args: Any, **kwargs: Any):
        given = require_settings(type(self), kwargs, self.algorithm.upper())
        if given.get("policy_kwargs"):
            given["policy_kwargs"] = dict(given["policy_kwargs"])  # SB3 writes into it, and it is the caller's
        try:
            super().__init__(*args, **given)
        except UserError:
            raise
        except (AssertionError, ValueError) as error:  # how the stock algorithms refuse settings and spaces
            raise UserError(f"{self.algorithm.upper()}: {' '.join(str(error).split())}") from error

    def _begin(
        self,
        device: str,
        lr_scale: Mapping[str, float] | None,
        loss_terms: Iterable[LossTerm],
        progress_hooks: Iterable[ProgressHook],
        network: Mapping[str, Any] | None,
    ) -> None:
        """To be called before SB3's constructor. `network`: what it is told as policy_kwargs."""
        if not isinstance(network, Mapping | None):
            raise UserError(
                f"policy_kwargs must be a mapping of settings of the network, as {{'hidden': [64]}}, not {network!r}"
            )
        for name in network or {}:
            require_known(name, self.policy_class_.SETTINGS, "network setting", "policy_kwargs")
        require_settings(self.policy_class_, network or {}, "policy_kwargs")
        if str(device) not in ("cpu", "auto"):
            raise Unsupported(f"{self.algorithm.upper()} for small networks computes on the CPU, got device {device!r}")
        self.loss_terms: list[LossTerm] = _functions(loss_terms, "loss_terms", "(policy, batch)")
        self.progress_hooks: list[ProgressHook] = _functions(progress_hooks, "progress_hooks", "(learner, progress)")
        self.additions: dict[str, Addition] = {}
        self.notes: dict[str, Any] = {}
        self.seconds = dict.fromkeys(("physics", "inference", "update", "other"), 0.0)
        self._keep_normalizer = False
        self._lr_scale = _scales({} if lr_scale is None else lr_scale)

    @staticmethod
    def _wrap_env(env: Any, verbose: int = 0, monitor_wrapper: bool = True) -> VecEnv:
        if isinstance(env, VectorEnv | SB3Worlds):
            return SB3Worlds(env.worlds if isinstance(env, SB3Worlds) else env, flat=True)
        if not isinstance(env, VecEnv):
            from stable_baselines3.common.base_class import BaseAlgorithm

            # SB3 also moves the channels of pictures to the front; ours stay as `predict` and agents get them.
            env = BaseAlgorithm._wrap_env(env, verbose, monitor_wrapper)
            env = env.venv if isinstance(env, VecTransposeImage) else env
        if (statistics := unwrap_vec_normalize(env)) and statistics.norm_obs:
            raise Unsupported(
                "agents normalize observations themselves, and statistics of VecNormalize would stay behind when they "
                "transfer: leave it out, or make it with norm_obs=False"
            )
        return env if Layout.of(env.observation_space).is_vector else FlatVecEnv(env)

    def _at_work(self) -> AbstractContextManager[None]:
        """To be held while updating. Who shares has one thread of torch: bits of what additions compute depend on how many."""
        torchs, added = torch.get_num_threads(), self.additions.values()
        by_torch = torchs > 1 and any(
            one.merge is not None or adds(one, "gradient") or adds(one, "stepped") for one in added
        )
        by_hand = self.policy.kernel.by_hand and not self.loss_terms and not by_torch
        return at_work((self.threads or torchs) if by_hand else 1)

    def _setup_model(self) -> None:
        states = self.__dict__.pop("_generator_states", None)
        if not issubclass(self.policy_class, self.policy_class_):
            wanted = f"{self.policy_class_.__module__}.{self.policy_class_.__name__}"
            raise Unsupported(
                f"{self.algorithm.upper()} needs {wanted}, got {self.policy_class.__module__}.{self.policy_class.__name__}; "
                "simreal_agents.sb3.load_zip reads zips of Stable-Baselines3"
            )
        super()._setup_model()  # type: ignore[misc]
        if states is not None:
            self._noise.set_state(states[0])
            self._order.set_state(states[1])
        if self.policy.layout.images:
            keep_freed_memory()
        self.policy.initialize(stream(self.seed, "weights"))
        self.policy.set_training_mode(False)
        self.policy.optimizer = self._make_optimizer()
        self.policy.tensors_were_replaced()
        for i, dropout in enumerate(m for m in self.policy.modules() if isinstance(m, Dropout)):
            dropout.generator = stream(self.seed, f"dropout {i}")
        self.policy.encoder.normalizer.frozen = self._keep_normalizer
        self.set_lr_scale(self._lr_scale)

    def _make_optimizer(self) -> FlatAdam:
        return FlatAdam(self.policy, lr=self.lr_schedule(1))

    def set_random_seed(self, seed: int | None = None) -> None:
        """Seed this agent's own generators and the worlds; global random state is left alone."""
        self._noise, self._order = stream(seed, "noise"), stream(seed, "order")
        self._predictions = torch.Generator().manual_seed(0 if seed is None else int(seed))
        if seed is not None and self.env is not None:
            self.env.seed(seed)

    @property
    def rollout_size(self) -> int:
        """Environment steps between two calls of the progress hooks."""
        return self.n_steps * self.num_counted

    @property
    def _worlds(self) -> Any:
        """The worlds themselves, where they are not a VecEnv of somebody else's."""
        return self.env.worlds if isinstance(self.env, SB3Worlds) else self.env

    @property
    def which(self) -> np.ndarray:
        """The domain ``(N,)`` of every world; 0 is the one that counts as experience."""
        found = getattr(self._worlds, "which", None)
        return np.zeros(self.n_envs, np.int64) if found is None else found

    @property
    def num_counted(self) -> int:
        """Worlds whose steps count as experience: all, unless some are there to help (`simreal_envs.together`)."""
        return getattr(self._worlds, "num_counted", self.n_envs)

    @property
    def _counted(self) -> np.ndarray:
        return getattr(self._worlds, "counted", np.ones(self.n_envs, bool))

    @property
    def hyperparameters(self) -> dict[str, Any]:
        """What a card says of how this agent learned."""
        rates = {"learning_rate": self.lr_schedule(1), "num_worlds": self.n_envs}
        return {**rates, **{name: getattr(self, name) for name in self.settings}}

    # ---- what strategies add ----------------------------------------------------------------------------------------

    def attach(self, name: str, addition: Addition) -> None:
        """Let an addition act on every moment of learning from now on; its state goes into `training_state`.

        Raises:
            UserError: when the name is taken, or it is no addition.
        """
        require_a(
            Addition, addition, f"what is attached as {name!r}", "a subclass of simreal_agents.additions.Addition"
        )
        if name in self.additions:
            raise UserError(f"{name} is attached to this learner already")
        self.additions[name] = addition
        if adds(addition, "loss"):
            self.loss_terms.append(addition.loss)
        if adds(addition, "gradient"):
            changing = [one for one in self.additions.values() if adds(one, "gradient")]
            later = sum(one.turn > addition.turn for one in changing)
            self.optimizer.before.insert(len(self.optimizer.before) - later, addition.gradient)
        if adds(addition, "stepped"):
            self.optimizer.after.append(addition.stepped)

    @property
    def _listeners(self) -> list[Addition]:
        return [addition for addition in self.additions.values() if adds(addition, "collected")]

    def _collected(self, experience: Experience) -> None:
        for addition in self._listeners:
            addition.collected(self, experience)

    # ---- what may move, and how fast --------------------------------------------------------------------------------

    @property
    def optimizer(self) -> FlatAdam:
        """The optimizer; one group per part of the network, e.g. ``encoder.actor``."""
        return self.policy.optimizer

    def set_lr_scale(self, scales: Mapping[str, float]) -> None:
        """Multiply the learning rate of modules, towers or groups; the longest matching name wins, others return to 1.

        Raises:
            UserError: for an unknown name, one that this network has nothing of, or a scale that is no number from 0 to
                `MOST_SCALE`.
        """
        for name, scale in _scales(scales).items():
            _require_number(scale, f"lr_scale of {name!r}")
            if scale > MOST_SCALE:
                raise UserError(f"lr_scale of {name!r} must be at most {MOST_SCALE:,}, got {scale:g}")
        told = {name: self._told([name], "lr_scale") for name in sorted(scales, key=lambda name: len(str(name)))}
        for group in self.optimizer.param_groups:
            group["lr_scale"] = 1.0
        for name, groups in told.items():
            for group in groups:
                group["lr_scale"] = float(scales[name])

    def set_options(self, names: Sequence[str] = MODULES, **options: Any) -> None:
        """Set options of the optimizer for modules, towers or groups.

        Args:
            options: ``weight_decay`` (decoupled, Loshchilov & Hutter 2019), ``max_grad_norm`` (of each group by itself,
                before the norm of all is bounded; None: no bound), ``betas`` (two of them) or ``eps``.

        Raises:
            UserError: for an unknown name or option, a name that this network has nothing of, or a value out of bounds.
        """
        for option, value in options.items():
            require_known(option, FlatAdam.OPTIONS, "optimizer option", "set_options")
            if option == "betas":
                _require_betas(value)
            elif option != "max_grad_norm" or value is not None:
                _require_number(value, option)
        for group in self._told(names, "set_options"):
            group.update(options)

    def _update_learning_rate(self, optimizers: Any) -> None:
        # SB3 writes one learning rate into every group, which would undo the scales.
        lr = self.lr_schedule(self._current_progress_remaining)
        self.logger.record("train/learning_rate", lr)
        for group in self.optimizer.param_groups:
            group["lr"] = lr * group["lr_scale"]

    def freeze(self, names: Sequence[str], *, normalizer: Literal["keep", "update"] | None = None) -> None:
        """Stop modules, towers or groups from learning: their tensors stay bit-equal until ``thaw``.

        Args:
            names: modules (``encoder``), towers (``actor``) or groups (``heads.actor``).
            normalizer: ``"keep"`` also stops the observation statistics, ``"update"`` lets them follow the data. None stops
                them where a part of the encoder is frozen, whose inputs would move otherwise, and else leaves them as they
                are.

        Raises:
            UserError: for an unknown name, or one that this network has nothing of.
        """
        if normalizer is not None:
            require_known(normalizer, ("keep", "update"), "normalizer setting", "freeze")
        told = self._told(names, "freeze")
        for group in told:
            group["frozen"] = True
        if normalizer is None and any(group["name"].startswith("encoder.") for group in told):
            normalizer = "keep"
        if normalizer is not None:
            self._keep_normalizer = self.policy.encoder.normalizer.frozen = normalizer == "keep"
        self._mark_frozen()

    def thaw(self, names: Sequence[str] = MODULES) -> None:
        """Let frozen parts learn again, with fresh Adam moments.

        The observation statistics follow the data again as soon as the encoder is thawed, and nothing of it is frozen.

        Raises:
            UserError: for an unknown name, or one that this network has nothing of.
        """
        for group in self._told(names, "thaw"):
            if group["frozen"]:
                group["frozen"] = False
                self.optimizer.reset_moments(group["name"])
        encoder = set(matching_groups(["encoder"]))
        frozen = {group["name"] for group in self.optimizer.param_groups if group["frozen"]}
        if encoder & set(matching_groups(names)) and not encoder & frozen:
            self._keep_normalizer = self.policy.encoder.normalizer.frozen = False
        self._mark_frozen()

    def reinitialize(self, names: Sequence[str]) -> None:
        """Draw the weights of modules, towers or groups anew, as this learner's seed has them at its very beginning.

        Raises:
            UserError: for an unknown name, or one that this network has nothing of.
        """
        chosen = [group["name"] for group in self._told(names, "reinitialize")]
        state = {name: tensor.clone() for name, tensor in self.policy.state_dict().items()}
        self.policy.initialize(stream(self.seed, "weights"))
        kept = {n: t for n, t in state.items() if not any(n == c or n.startswith(f"{c}.") for c in chosen)}
        self.policy.load_state_dict(kept, strict=False)
        for name in chosen:
            self.optimizer.reset_moments(name)

    def _groups(self, names: Sequence[str], where: str) -> list[dict[str, Any]]:
        matched = matching_groups(names, where)
        return [group for group in self.optimizer.param_groups if group["name"] in matched]

    def _told(self, names: Sequence[str], where: str) -> list[dict[str, Any]]:
        """The groups of `names`; a module may be empty, but what is told to a tower or group must reach something."""
        told = self._groups(names, where)
        for name in [names] if isinstance(names, str) else names:
            if name not in MODULES and not self._groups([name], where):
                raise UserError(f"{where}: the network has no {name!r}; {nearest(name, self.optimizer.names)}")
        return told

    def _mark_frozen(self) -> None:
        for group in self.optimizer.param_groups:
            for parameter in group["params"]:
                parameter.requires_grad_(not group["frozen"])

    # ---- saving in SB3's way ----------------------------------------------------------------------------------------

    def save(self, path: Any, exclude: Iterable[str] | None = None, include: Iterable[str] | None = None) -> None:
        """SB3's zip (it runs code when loaded: for your own use; share a bundle). Hooks and loss terms stay behind."""
        self._generator_states = (self._noise.get_state(), self._order.get_state())
        super().save(path, exclude, include)  # type: ignore[misc]

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "loss_terms", "progress_hooks", "additions", *GENERATORS]  # type: ignore[misc]

    def set_parameters(self, *args: Any, **kwargs: Any) -> None:
        """SB3's; also restores what is frozen."""
        super().set_parameters(*args, **kwargs)  # type: ignore[misc]
        self._mark_frozen()

    # ---- to stop and to go on ---------------------------------------------------------------------------------------

    def training_state(self) -> dict[str, Any]:
        """Everything that decides the future, between two rollouts: nested dicts of tensors, arrays, numbers, strings.

        Taking one may change rounding errors of what follows (Bullet drops cached contacts), in the same way as
        restoring it: a run that is to be continued exactly takes the same ones as a run that is not interrupted.
        """
        worlds = self._worlds
        if not hasattr(worlds, "snapshot"):
            raise Unsupported(f"{type(worlds).__name__} has no snapshot(), so that training in it cannot be continued")
        return {
            "policy": {name: tensor.clone() for name, tensor in self.policy.state_dict().items()},
            "optimizer": self.optimizer.snapshot(),
            "generators": {name: g.get_state() for name, g in self._generators().items()},
            "counters": {name: copy(getattr(self, name, None)) for name in self.counters},
            "total": [self._total_timesteps, self._num_timesteps_at_start],
            "episodes": [[info["r"], info["l"]] for info in self.ep_info_buffer or ()],
            "successes": [bool(success) for success in self.ep_success_buffer or ()],
            "seconds": dict(self.seconds),
            "additions": {name: addition.training_state() for name, addition in self.additions.items()},
            "worlds": worlds.snapshot(),
        }

    def restore_training_state(self, state: Mapping[str, Any]) -> None:
        """Continue where `training_state` was taken; call ``learn`` with the steps that are left and
        ``reset_num_timesteps=False``.

        Raises:
            UserError: it is no training state, or that of another network or of other worlds.
        """
        _require_state_of(self.policy, state)
        self._worlds.restore(state["worlds"])
        self.policy.load_state_dict(state["policy"])
        self.optimizer.restore(state["optimizer"])
        self._mark_frozen()
        for name, generator in self._generators().items():
            generator.set_state(state["generators"][name])
        for name, value in state["counters"].items():
            setattr(self, name, copy(value))
        self.policy.encoder.normalizer.frozen = self._keep_normalizer
        self._total_timesteps, self._num_timesteps_at_start = state["total"]
        now = time.time()
        self.ep_info_buffer = deque(({"r": r, "l": n, "t": now} for r, n in state["episodes"]), self._stats_window_size)
        self.ep_success_buffer = deque(state["successes"], self._stats_window_size)
        self.seconds = dict(state["seconds"])
        for name, addition in self.additions.items():
            addition.restore_training_state(state["additions"][name])

    def _generators(self) -> dict[str, torch.Generator]:
        dropouts = (m.generator for m in self.policy.modules() if isinstance(m, Dropout))
        return {"noise": self._noise, "order": self._order} | {f"dropout {i}": g for i, g in enumerate(dropouts)}

    # ---- experience -------------------------------------------------------------------------------------------------

    def _setup_learn(
        self, total_timesteps: int, callback: Any = None, reset_num_timesteps: bool = True, *args: Any, **kwargs: Any
    ) -> Any:
        if reset_num_timesteps or self._last_obs is None:
            # Per world, since its last reset: return and length.
            self._returns, self._lengths = np.zeros((2, self.n_envs))
        return super()._setup_learn(total_timesteps, callback, reset_num_timesteps, *args, **kwargs)  # type: ignore[misc]

    def learn(self, total_timesteps: float, *args: Any, **kwargs: Any) -> Any:
        """SB3's ``learn``; also keeps ``seconds``.

        Raises:
            UserError: for steps that are no number.
        """
        _require_number(total_timesteps, "total_timesteps")
        start, before = time.perf_counter(), sum(self.seconds.values())
        try:
            return super().learn(total_timesteps, *args, **kwargs)  # type: ignore[misc]
        finally:
            self.seconds["other"] += time.perf_counter() - start - (sum(self.seconds.values()) - before)

    def predict(self, observation: Any, *args: Any, **kwargs: Any) -> Any:
        """SB3's ``predict``, for observations as the worlds show them; draws from a generator of its own."""
        if isinstance(self.observation_space, Flattened):
            observation = self.observation_space.rows(observation)
        else:
            require_numbers(np.asarray(observation))
        with torch.random.fork_rng(devices=[]):  # SB3's distributions know no generator but the global one
            torch.set_rng_state(self._predictions.get_state())
            result = super().predict(observation, *args, **kwargs)  # type: ignore[misc]
            self._predictions.set_state(torch.get_rng_state())
        return result

    def _losses(self, batch: dict[str, torch.Tensor]) -> Iterator[torch.Tensor]:
        """The extra losses that there is something to learn from; others are None, or of what is frozen."""
        for term in self.loss_terms:
            loss = term(self.policy, batch)
            if loss is None:
                continue
            if not isinstance(loss, torch.Tensor) or loss.numel() != 1:
                shape = f" of shape {tuple(loss.shape)}" if isinstance(loss, torch.Tensor) else ""
                name = getattr(term, "__qualname__", type(term).__name__)
                raise UserError(
                    f"a loss term gives a scalar tensor or None, and {name} gave a {type(loss).__name__}{shape}"
                )
            if loss.requires_grad:
                yield loss.reshape(())

    def _announce_progress(self, env: VecEnv) -> None:
        """Tell curricula and hooks how much of this ``learn`` call is done."""
        progress = min(self.num_timesteps / max(self._total_timesteps, 1), 1.0)
        worlds = env.worlds.unwrapped if isinstance(env, SB3Worlds) else env
        if hasattr(worlds, "progress"):
            worlds.progress = progress
        for hook in self.progress_hooks:
            hook(self, progress)

    @staticmethod
    def _goes_on(callback: BaseCallback, step: Step, known: Mapping[str, Any]) -> bool:
        """Tell a callback of a step, with what SB3's loops call so beside what ours know; whether learning goes on."""
        if not isinstance(callback, ConvertCallback) or callback.callback is not None:
            done = step.terminated | step.truncated
            seen = {"new_obs": step.observations, "rewards": step.rewards, "dones": done, "infos": step.infos}
            callback.update_locals({**known, **seen})
        return callback.on_step()

    def _count_episodes(self, step: Step, done: np.ndarray) -> None:
        self._returns += step.rewards
        self._lengths += 1
        if not done.any():
            return
        for i in np.flatnonzero(done & self._counted):
            self.ep_info_buffer.append({"r": float(self._returns[i]), "l": int(self._lengths[i]), "t": time.time()})
            if step.success is not None:
                self.ep_success_buffer.append(bool(step.success[i]))
        self._returns[done] = 0.0
        self._lengths[done] = 0

    def _measure(self, rows: np.ndarray) -> None:
        """Merge raw rows ``(n, size)`` into the observation statistics."""
        layout = self.policy.layout
        seen = rows[:, layout.vector] if layout.images else rows
        self.policy.encoder.normalizer.update(torch.from_numpy(seen))


def require_finite(step: Step) -> None:
    """Raise a FloatingPointError if a world returned an observation or reward that is not finite."""
    seen = [("an observation", step.observations), ("a reward", step.rewards)]
    if step.final_observations is not None:
        seen.append(("an observation", step.following))
    for what, array in seen:
        if array.dtype != np.uint8 and not np.isfinite(array).all():
            bad = np.flatnonzero(~np.isfinite(array.reshape(len(array), -1)).all(1))
            raise FloatingPointError(f"world {bad[0]} returned {what} that is not finite; nothing was learned from it")


def parameters_of(kind: type) -> dict[str, str]:
    """What the constructors of a class and its bases take by name, with the types that are written there, as text.

    Where several name it, those count of the first one that says of which kind of number it is.
    """
    found: dict[str, str] = {}
    for parameter in (p for base in kind.__mro__ for p in signature(base.__init__).parameters.values()):
        said = "" if parameter.annotation is parameter.empty else str(parameter.annotation)
        if parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD, parameter.POSITIONAL_ONLY) and not (
            _NUMBER.search(found.get(parameter.name, ""))
        ):
            found[parameter.name] = said
    return found


def require_settings(kind: type, given: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Settings for the constructor of a class; whole numbers as ints, whatever they were counted with.

    Raises:
        UserError: for a name that neither it nor its bases know, or something else than a number where one is wanted.
    """
    known, plain = parameters_of(kind), {}
    for name, value in given.items():
        if not name.startswith("_"):  # those that SB3 tells itself when it loads
            names = (*known, *getattr(kind, "SETTINGS", ()))
            require_known(name, [n for n in names if n != "self" and not n.startswith("_")], "setting", where)
        said = known.get(name, "")
        # Text, tuples and functions (of the progress) may stand for some numbers; what these say is left to the class.
        if _NUMBER.search(said) and not _OTHER.search(said) and not (value is None and "None" in said):
            whole = "float" not in said
            fits = isinstance(value, Real) and not isinstance(value, bool) and not math.isnan(value)
            if not fits or (whole and value % 1):
                raise UserError(f"{where}: {name} must be a {'whole ' if whole else ''}number, got {value!r}")
            value = int(value) if whole else value
        plain[name] = value
    return plain


def _functions(given: Any, what: str, takes: str) -> list[Any]:
    """A list of its own of what was given as `what`. Raises a UserError where that is none of functions."""
    if not isinstance(given, Iterable) or not all(map(callable, given := list(given))):
        raise UserError(f"{what} must be a list of functions of {takes}, got {given!r}")
    return given


def _scales(given: Any) -> dict[str, float]:
    """A copy of multiples of the learning rate by part. Raises a UserError where they are none."""
    if not isinstance(given, Mapping):
        raise UserError(
            f"lr_scale says for parts of the network by how much their learning rate is multiplied, as {{'encoder': 0.1}}, "
            f"got {given!r}"
        )
    return dict(given)


def _require_state_of(policy: Any, state: Any) -> None:
    """Raise a UserError unless `state` is a training state with tensors of the shapes of `policy`."""
    if not isinstance(state, Mapping) or not {"policy", "worlds"} <= state.keys():
        raise UserError("a training state is what training_state() of a learner like this one gives")
    there, here = state["policy"], policy.state_dict()
    for name in {**there, **here}:
        shapes = [list(tensors[name].shape) if name in tensors else "missing" for tensors in (there, here)]
        if shapes[0] != shapes[1]:
            raise UserError(
                f"the training state is of another learner: {name} is {shapes[0]} there and {shapes[1]} here"
            )


def _is_number(value: Any, bound: float = math.inf) -> bool:
    """Whether `value` is a number from 0 to below `bound`."""
    return isinstance(value, Real) and not isinstance(value, bool) and 0 <= float(value) < bound


def _require_number(value: Any, what: str) -> None:
    if not _is_number(value):
        raise UserError(f"{what} must be a finite number that is not negative, got {value!r}")


def _require_betas(value: Any) -> None:
    if not isinstance(value, tuple | list) or len(value) != 2 or not all(_is_number(beta, 1.0) for beta in value):
        raise UserError(f"betas must be two numbers from 0 to below 1, got {value!r}")
