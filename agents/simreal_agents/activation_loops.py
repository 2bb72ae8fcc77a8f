"""Activations and their slopes as loops, which a thread of a team does for the rows that it has just multiplied.

For 512 x 128 numbers ELU takes 7 us, where numpy's ``expm1`` alone takes 17 and torch's 56, and tanh 11 (11 and 177).
"""

from __future__ import annotations

import math

import numpy as np
from numba import types
from numba.extending import intrinsic

from simreal_envs.compiled import REORDERED, compiled

RELU, TANH, ELU = range(3)
ZERO, HALF, ONE, TWO = np.float32([0.0, 0.5, 1.0, 2.0])
LOWEST = np.float32(-87.0)  # from which on exp is a float32 with all its digits
SATURATED = np.float32(20.0)  # from half of which on tanh is 1
# exp(x) = 2^n exp(r) with |r| <= log(2) / 2. log(2) is taken off in two parts, of which the first has few digits, so that a
# multiple of it is exact; the polynomial is that of Cephes' expf (Moshier, 1989), for (exp(r) - 1 - r) / r^2.
LOG2_E, LOG_2, LOG_2_REST = np.float32([1.4426950408889634, 0.693359375, -2.12194440e-4])
P0, P1, P2 = np.float32([1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3])
P3, P4, P5 = np.float32([4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1])
BIAS, DIGITS = np.int32(127), np.int32(23)  # of a float32's exponent, and of what follows that


@intrinsic
def _with_bits(typing, bits):
    """The float32 with the bits of an int32."""

    def build(context, builder, sig, args):
        return builder.bitcast(args[0], context.get_value_type(types.float32))

    return types.float32(types.int32), build


@compiled(fastmath=REORDERED)
def _expm1(x):
    """``exp(x) - 1`` for x from `LOWEST` to 88, to 0.7 units in the last place."""
    n = np.floor(x * LOG2_E + HALF)
    r = x - n * LOG_2 - n * LOG_2_REST
    p = (((((P0 * r + P1) * r + P2) * r + P3) * r + P4) * r + P5) * r * r + r
    scale = _with_bits((np.int32(n) + BIAS) << DIGITS)
    return scale * p + (scale - ONE)


@compiled(fastmath=REORDERED)
def activate(h, kind):
    """Apply an activation in place to `h`, float32 numbers side by side; what is no number stays that."""
    if kind == RELU:
        for j in range(len(h)):
            h[j] = ZERO if h[j] <= ZERO else h[j]
    elif kind == TANH:
        for j in range(len(h)):
            e = _expm1(min(TWO * abs(h[j]), SATURATED))
            h[j] = math.copysign(e / (e + TWO), h[j]) if h[j] == h[j] else h[j]
    elif kind == ELU:
        for j in range(len(h)):
            low = _expm1(min(max(h[j], LOWEST), ZERO))
            h[j] = low if h[j] <= ZERO else h[j]


@compiled(fastmath=REORDERED)
def multiply_by_slope(delta, h, kind):
    """Multiply `delta` in place by the slope of an activation whose value is `h`."""
    if kind == RELU:
        for j in range(len(delta)):
            delta[j] = ZERO if h[j] <= ZERO else delta[j]
    elif kind == TANH:
        for j in range(len(delta)):
            delta[j] *= ONE - h[j] * h[j]
    elif kind == ELU:
        for j in range(len(delta)):
            delta[j] *= ONE + h[j] if h[j] <= ZERO else ONE
