"""Numbers out of motions: how far apart two engines are, when they part, and what each of them shows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from simreal_envs.parity.bench import Machine, Motion
from simreal_envs.parity.probes import Probe
from simreal_envs.parity.results import Channel, Number, verdict_of

TIMES = (0.1, 0.25, 0.5, 1.0, 2.0, 3.0, 5.0)  # s, at which differences are stated
MOTION_SHARE = 0.05  # of the motion itself: the yardstick where mass hardly matters
PART = 1e-3  # of the motion: from there on two engines have parted
POINTS = 120  # of a trace
SLIDING = 0.12  # s, in which a robot that was set on the floor at speed still slides

Three = tuple[Motion, Motion, Motion]  # of the two engines and of the yardstick
Far = Callable[[Motion, Motion], np.ndarray]  # how far apart two motions are in one coordinate, (T + 1, n)


def channels(probe: Probe, motions: Three, machine: Machine) -> tuple[Channel, ...]:
    """The difference of every coordinate that the probe is about."""
    a, b, heavier = motions
    found = []
    for name, unit, far in _coordinates(probe, machine):
        apart = far(a, b)
        yardstick = max(_rms(far(a, heavier)), MOTION_SHARE * _rms(far(a, _frozen(a))))
        rms = _rms(apart)
        ratio, verdict = verdict_of(rms, yardstick)
        steps = {f"{t:g}": int(np.argmin(np.abs(a.times - t))) for t in TIMES if t <= a.times[-1] + 1e-9}
        at = {t: _rms(apart[step]) for t, step in steps.items()}
        found.append(Channel(name, unit, rms, float(np.abs(apart).max()), at, yardstick, ratio, verdict))
    return tuple(found)


def onset(probe: Probe, a: Motion, b: Motion, machine: Machine) -> tuple[float | None, str]:
    """When two engines part, and what had happened by then: a touch-down, a limit, or nothing."""
    begins = None
    for _, _, far in _coordinates(probe, machine):
        apart, moved = np.abs(far(a, b)).max(axis=1), np.abs(far(a, _frozen(a))).max()
        over = ~(apart <= max(PART * moved, 1e-6))
        if over.any():
            time = float(a.times[int(np.argmax(over))])
            begins = time if begins is None else min(begins, time)
    if begins is None:
        return None, ""
    events = []
    if (touch := _first(machine.touches(a), machine.touches(b))) is not None:
        events.append((touch, f"touch-down at {touch:.3g} s"))
    limits = [x for x in (machine.reaches_limit(a), machine.reaches_limit(b)) if x is not None]
    if limits:
        time, joint = min(limits)
        events.append((time, f"limit of {joint} at {time:.3g} s"))
    step = a.times[1] - a.times[0]
    events = [event for event in events if event[0] <= begins + step / 2]
    return begins, min(events)[1] if events else ""


def numbers(probe: Probe, motions: Three, machine: Machine) -> tuple[Number, ...]:
    """Quantities of physics that a probe shows: periods, decay, distances, depth."""
    if probe.name == "free swing":
        found = []
        for row, j in enumerate(probe.excited):
            speeds = [(m.times, m.qvel[:, row, machine.velocities[j]]) for m in motions]
            name = machine.joints[j]
            found.append(Number(f"period of {name}", "s", *(period(*s) for s in speeds)))
            found.append(Number(f"decay of {name}", "1/s", *(decay(*s) for s in speeds)))
        return tuple(n for n in found if n.a is not None or n.b is not None)
    if probe.name == "slide" and (along := machine.base(0)) is not None:
        place = along[0]
        distances = [float(m.qpos[-1, 0, place] - m.qpos[0, 0, place]) for m in motions]
        return (
            Number("distance", "m", *distances),
            Number("friction coefficient", "1", *(friction(m, machine) for m in motions)),
        )
    if probe.name == "standing":
        depths = [machine.depth(m.qpos[-1, 0]) if np.isfinite(m.qpos[-1]).all() else None for m in motions]
        return (Number("depth in the floor", "m", *depths),)
    if probe.name == "passive drop" and (times := [machine.touches(m) for m in motions])[0] is not None:
        return (Number("touch-down", "s", *times),)
    return ()


def period(times: np.ndarray, speed: np.ndarray) -> float | None:
    """Period of an oscillation from the zero crossings of its speed, s; None with fewer than two of them."""
    if not np.isfinite(speed).all():
        return None
    before = np.flatnonzero(speed[:-1] * speed[1:] < 0)
    if len(before) < 2:
        return None
    zeros = times[before] - speed[before] * (times[before + 1] - times[before]) / (speed[before + 1] - speed[before])
    return float(2 * np.median(np.diff(zeros)))


def decay(times: np.ndarray, speed: np.ndarray) -> float | None:
    """Rate at which a free swing dies, 1/s: from the peaks of its speed, or from its speed where it does not swing."""
    size = np.abs(speed)
    if not np.isfinite(size).all() or size.max() < 1e-9:
        return None
    peaks = np.flatnonzero((size[1:-1] >= size[:-2]) & (size[1:-1] > size[2:])) + 1
    if len(peaks) >= 2:
        return float(-np.polyfit(times[peaks], np.log(size[peaks]), 1)[0])
    lasting = int(np.argmax(size < 0.1 * size[0])) or len(size)  # down to a tenth
    if lasting < 4 or (speed[:lasting] * speed[0] <= 0).any():
        return None
    return float(-np.polyfit(times[:lasting], np.log(size[:lasting]), 1)[0])


def friction(motion: Motion, machine: Machine) -> float | None:
    """Coefficient of sliding friction from the first contacts: the momentum lost along the slide over the floor's push.

    Where all that touches slides forward the ratio is the coefficient; where something sticks it is less, so that the
    upper decile of the steps in which the floor pushes counts.
    """
    if not np.isfinite(motion.qpos).all():
        return None
    states = motion.times <= SLIDING
    momentum = np.array(
        [machine.momentum(q[0], v[0]) for q, v in zip(motion.qpos[states], motion.qvel[states], strict=True)]
    )
    lost = np.diff(momentum, axis=0)
    fallen = float(np.linalg.norm(machine.model.opt.gravity)) * np.diff(motion.times[states])
    push = lost[:, 2] + fallen
    pushing = push > 0.25 * fallen
    return float(np.percentile(-lost[pushing, 0] / push[pushing], 90)) if pushing.sum() >= 3 else None


def traces(probe: Probe, motions: Three, machine: Machine) -> dict[str, dict[str, Any]]:
    """Curves to draw, of one experiment each."""
    found = {}
    stride = max(1, len(motions[0].times) // POINTS)
    for name, unit, row, place in _curves(probe, machine):
        columns = [m.qpos[::stride, row, place] for m in motions]
        found[name] = {
            "unit": unit,
            "t": motions[0].times[::stride].tolist(),
            **{key: column.tolist() for key, column in zip(("a", "b", "heavier"), columns, strict=True)},
        }
    return found


def _curves(probe: Probe, machine: Machine) -> list[tuple[str, str, int, int]]:
    if len(probe.excited):
        return [
            (machine.joints[j], machine.units[j], row, int(machine.positions[j])) for row, j in enumerate(probe.excited)
        ]
    joints = [(n, u, 0, int(p)) for n, u, p in zip(machine.joints, machine.units, machine.positions, strict=True)]
    free = [(f"{body} {axis}", "m", 0, q + i) for body, q, _ in machine.free for i, axis in enumerate("xyz")]
    return [*free, *joints]


def _coordinates(probe: Probe, machine: Machine) -> list[tuple[str, str, Far]]:
    """Name, unit and difference of what a probe compares."""
    if len(probe.excited):
        return [
            (machine.joints[j], machine.units[j], _of_joint(machine.positions[j], row))
            for row, j in enumerate(probe.excited)
        ]
    joints = zip(machine.joints, machine.units, machine.positions, strict=True)
    found = [(name, unit, _of_joint(place, None)) for name, unit, place in joints]
    for body, q, _ in machine.free:
        found += [(f"{body} position", "m", _of_position(q)), (f"{body} orientation", "rad", _of_orientation(q + 3))]
    return found


def _of_joint(place: int, row: int | None) -> Far:
    rows = slice(None) if row is None else slice(row, row + 1)
    return lambda x, y: y.qpos[:, rows, place] - x.qpos[:, rows, place]


def _of_position(place: int) -> Far:
    return lambda x, y: np.linalg.norm(y.qpos[:, :, place : place + 3] - x.qpos[:, :, place : place + 3], axis=2)


def _of_orientation(place: int) -> Far:
    def angle(x: Motion, y: Motion) -> np.ndarray:
        first, second = x.qpos[:, :, place : place + 4], y.qpos[:, :, place : place + 4]
        # From the difference of the quaternions: the scalar product loses half of the digits of a small angle.
        apart = np.minimum(np.linalg.norm(first - second, axis=2), np.linalg.norm(first + second, axis=2))
        return 4 * np.arcsin(np.clip(apart / 2, 0, 1))

    return angle


def _frozen(motion: Motion) -> Motion:
    """A motion that stays where it started."""
    return Motion(motion.times, np.broadcast_to(motion.qpos[:1], motion.qpos.shape), motion.qvel)


def _rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(values))))


def _first(*times: float | None) -> float | None:
    return min((t for t in times if t is not None), default=None)
