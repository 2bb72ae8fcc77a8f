"""What happens around the engine at every control step, world by world, as loops that numba compiles.

As numpy calls, of which there would be dozens, this costs a small robot's worlds half as much as their physics.

Arrays are C-contiguous, float64 where nothing else is said; N worlds. A level that does not vary is an array of length 0.
"""

from __future__ import annotations

import numpy as np

from simreal_envs.compiled import compiled
from simreal_envs.parameters import GOLDEN, mixed, unit

_mixed, _unit = compiled(mixed), compiled(unit)


@compiled
def _key(episode, name, step):
    """What the numbers of a name in a step are made from, see `Draws.uniform`."""
    return _mixed(_mixed(episode ^ name) + np.uint64(step) * GOLDEN)


@compiled
def _number(key, k):
    """Number k of those, in (0, 1)."""
    return _unit(_mixed(key + np.uint64(k + 1) * GOLDEN))


@compiled
def draw(keys, steps, names, counts, numbers):
    """Uniform numbers of several names: what `Draws.uniform` gives for each of them, side by side.

    Args:
        keys: of the episodes' draws, uint64 ``(n,)``. steps: control steps so far, int64 ``(n,)``.
        names, counts: the key of each name, uint64, and how many numbers of it are wanted, int64.
        numbers: to be filled, ``(n, sum of counts)``.
    """
    for row in range(len(keys)):
        column = 0
        for i in range(len(names)):
            key = _key(keys[row], names[i], steps[row])
            for k in range(counts[i]):
                numbers[row, column] = _number(key, k)
                column += 1


@compiled
def command(
    wanted, keys, steps, names, loss, jitter, delay, timestep, sent, due, head, lag, followed, control,
):  # fmt: skip
    """Commands that are lost, come late by whole physics steps, and are followed by drives that lag.

    A lag is backward Euler of y' = (u - y) / tau: stable for every tau, and late by tau however short it is.

    Args:
        wanted: by the task in this control step, ``(N, joints)``.
        keys: of the episodes' draws, uint64 ``(N,)``. steps: control steps so far, int64 ``(N,)``.
        names: keys of the names of what is drawn for losses and for jitter, uint64 ``(2,)``.
        loss, jitter, lag: levels, ``(N,)``. timestep: s, ``(N,)``.
        delay: in physics steps, int64 ``(N,)``.
        sent, due, head: see `ActionDelay`; `head` is where the command of this step goes.
        followed: y so far, ``(N, joints)``; left as it is after this control step.
        control: to be filled, ``(N, k, joints)``: in each physics step, or the one of all where k is 1.
    """
    slots, substeps, num_worlds = due.shape
    for world in range(num_worlds):
        lost = len(loss) and _number(_key(keys[world], names[0], steps[world]), 0) < loss[world]
        for joint in range(wanted.shape[1]):
            sent[head, world, joint] = sent[head - 1, world, joint] if lost else wanted[world, joint]
        late = delay[world]
        if len(jitter):
            extra = _number(_key(keys[world], names[1], steps[world]), 0) * jitter[world]
            late += np.int64(np.rint(extra / timestep[world]))
        for ahead in range(slots):
            for k in range(substeps):
                if ahead * substeps + k >= late:  # none overtakes another
                    due[(head + ahead) % slots, k, world] = head * num_worlds + world
        left = lag[world] / (lag[world] + timestep[world]) if len(lag) else 0.0  # of a gap after a physics step
        for k in range(control.shape[1]):
            slot, row = divmod(due[head, k, world], num_worlds)
            for joint in range(wanted.shape[1]):
                target = sent[slot, row, joint]
                if len(lag):
                    target -= (target - followed[world, joint]) * left
                    followed[world, joint] = target
                control[world, k, joint] = target


@compiled
def push(steps, start, stop, level, direction, pushed, force):
    """Forces of pushes that last from one step to another; whether any begins or ends now.

    Args:
        steps, start, stop: int64 ``(N,)``.
        level: N, ``(N,)``. direction: ``(N, 3)``.
        pushed: bool ``(N,)``, in the step before; left as it is in this one.
        force: to be filled, ``(N, 3)`` N.
    """
    changed = False
    for world in range(len(steps)):
        now = start[world] <= steps[world] < stop[world]
        changed |= now != pushed[world]
        pushed[world] = now
        for axis in range(3):
            force[world, axis] = (level[world] * now) * direction[world, axis]
    return changed


@compiled
def read(
    readings, worlds, begins, measured, fields, std, bias, biased, noise, quantization, loss, numbers, uniform, delay, ring,
    head,
):  # fmt: skip
    """What arrives of readings: with their errors, some of them lost and all of them late.

    Args:
        readings: the truth, to be changed, ``(n, d)``.
        worlds: whose they are, int64 ``(n,)``. begins: whether their episodes begin with them.
        measured: columns that are, int64 ``(m,)``. fields: which ones these belong to, int64 ``(m,)``.
        std: typical noise of what is measured, ``(m,)``; empty where none is stated.
        bias: errors that last, at level 1, ``(N, m)``.
        biased, noise, quantization, loss: levels, ``(N,)``.
        numbers: normal ones for the noise, and from column `uniform` on those that decide on losses, one for each field.
        delay: in control steps, int64 ``(N,)``.
        ring: readings, the newest at `head` after this step, ``(slots, N, m)``; no slots where none is kept.
    """
    slots = len(ring)
    for row in range(len(readings)):
        world = worlds[row]
        for k in range(len(measured)):
            reading = readings[row, measured[k]]
            if len(std):
                if len(biased):
                    reading += biased[world] * std[k] * bias[world, k]
                if len(noise):
                    reading += noise[world] * std[k] * numbers[row, k]
                if len(quantization) and quantization[world] > 0:
                    step = quantization[world] * std[k]
                    reading = np.rint(reading / step) * step
            if slots and begins:  # nothing was read before the first observation of an episode
                for slot in range(slots):
                    ring[slot, world, k] = reading
            elif slots:
                if len(loss) and numbers[row, uniform + fields[k]] < loss[world]:
                    reading = ring[(head + 1) % slots, world, k]
                ring[head, world, k] = reading
                reading = ring[(head + delay[world]) % slots, world, k]
            readings[row, measured[k]] = reading
