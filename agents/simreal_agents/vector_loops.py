"""What an optimizer does with flat vectors, in parts that threads may share (`simreal_envs.team`), and a normalizer with rows."""

from __future__ import annotations

import math

import numpy as np
from numba import carray

from simreal_envs.compiled import REORDERED, compiled
from simreal_envs.team import WORK, Job, numbers_at, room, share

PART = 8192  # numbers of a part: some 1 us
# The fields of a job: addresses of vectors, then their length.
PARAMETERS, GRADIENTS, FIRST, SECOND, SETTINGS, LENGTH, COUNT = range(WORK + 1, WORK + 8)
KEEP, STEP, ROOT, EPSILON, SHARE, BETA2, SHARE2, MANY = range(8)  # settings of Adam


@compiled
def adam(box, job, parameters, gradients, first, second, settings):
    """Move float32 `parameters` ``(n,)`` in place, and the moments of their gradients.

    Args:
        settings: ``(7,)`` float32: what weight decay leaves of parameters, the learning rate over the correction of the
            first moment, one over the root of that of the second, epsilon, ``1 - beta1``, ``beta2`` and ``1 - beta2``.
    """
    fields = room(box)
    fields[PARAMETERS], fields[GRADIENTS] = parameters.ctypes.data, gradients.ctypes.data
    fields[FIRST], fields[SECOND], fields[SETTINGS] = first.ctypes.data, second.ctypes.data, settings.ctypes.data
    fields[LENGTH] = len(parameters)
    share(box, job, fields, -(-len(parameters) // PART))


@compiled
def norm(box, job, vector):
    """The length of a float32 `vector` ``(n,)``."""
    sums = np.empty(-(-len(vector) // PART), np.float32)
    fields = room(box)
    fields[GRADIENTS], fields[FIRST], fields[LENGTH] = vector.ctypes.data, sums.ctypes.data, len(vector)
    share(box, job, fields, len(sums))
    total = 0.0
    for part in sums:
        total += part
    return math.sqrt(total)


@compiled
def standardize(rows, shift, scale, bound, out):
    """Write ``(rows - shift) * scale`` within ``+-bound`` to float32 `out`, both ``(n, d)``; what is no number stays that."""
    for i in range(len(rows)):
        for j in range(len(shift)):
            value = (rows[i, j] - shift[j]) * scale[j]
            out[i, j] = -bound if value < -bound else bound if value > bound else value


@compiled
def _part_of(address, length, part):
    return carray(numbers_at(address), (length,))[part * PART : min((part + 1) * PART, length)]


def _adam_part(pointer, part):
    fields = carray(pointer, (COUNT,))
    n = fields[LENGTH]
    settings = carray(numbers_at(fields[SETTINGS]), (MANY,))
    _adam(
        _part_of(fields[PARAMETERS], n, part),
        _part_of(fields[GRADIENTS], n, part),
        _part_of(fields[FIRST], n, part),
        _part_of(fields[SECOND], n, part),
        settings,
    )


def _norm_part(pointer, part):
    fields = carray(pointer, (COUNT,))
    sums = carray(numbers_at(fields[FIRST]), (part + 1,))
    sums[part] = _sum_of_squares(_part_of(fields[GRADIENTS], fields[LENGTH], part))


@compiled(fastmath=REORDERED)
def _adam(parameters, gradients, first, second, settings):
    keep, step, root, epsilon = settings[KEEP], settings[STEP], settings[ROOT], settings[EPSILON]
    share1, beta2, share2 = settings[SHARE], settings[BETA2], settings[SHARE2]
    for i in range(len(parameters)):
        g = gradients[i]
        m = first[i] + (g - first[i]) * share1
        v = second[i] * beta2 + g * g * share2
        first[i], second[i] = m, v
        parameters[i] = parameters[i] * keep - step * m / (np.sqrt(v) * root + epsilon)


@compiled(fastmath=REORDERED)
def _sum_of_squares(vector):
    total = vector.dtype.type(0)
    for i in range(len(vector)):
        total += vector[i] * vector[i]
    return total


ADAM, NORM = Job(_adam_part), Job(_norm_part)
