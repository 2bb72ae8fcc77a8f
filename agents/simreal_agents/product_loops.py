"""The products of linear layers on columns as loops over samples, which lie side by side in memory: see `products`.

Four rows of a product are worked out at a time from four rows of a factor, so that every number that is read takes part in
four multiplications. Sums may be reordered (but not for what is infinite or no number), as a library's are; the order
depends on shapes alone. A pass over a network is many jobs, which are described once and done in one call (`forward`,
`backward`): for a small layer the call took longer than the product.
"""

from __future__ import annotations

import numpy as np
from numba import carray

from simreal_agents.activation_loops import activate, multiply_by_slope
from simreal_agents.dot_tile import LANES, dot_tile
from simreal_envs.compiled import REORDERED, compiled
from simreal_envs.team import WORK, Job, numbers_at, room, share

Array = np.ndarray
LEAST = 250_000  # multiplications of a part: some 2 us
# The fields of a job, whose parts are some rows of one member's result: addresses of arrays, then numbers.
WEIGHT, BIAS, GIVEN, RESULT, SEEN = range(WORK + 1, WORK + 6)
MEMBERS, READ, OUT, IN, COLUMNS, ROWS, PIECES, WIDTH, FROM, KIND, ADDS, PARTS, CALLERS, COUNT = range(
    SEEN + 1, SEEN + 15
)


def forward_job(weight: Array, bias: Array, h: Array, out: Array, kind: int) -> Array:
    """Write ``weight (k, o, i) @ h (1 or k, i, n) + bias (k, o)`` to `out` ``(k, o, n)``, after the activation `kind`, if any."""
    given = {WEIGHT: weight, BIAS: bias, GIVEN: h, RESULT: out}
    return _job(FORWARD, given, weight.shape, h, weight.shape[1], weight.shape[2], {KIND: kind})


def back_job(weight: Array, delta: Array, out: Array, first: int, seen: Array, kind: int, adds: bool) -> Array:
    """Write ``weight.T @ delta (k, o, n)`` to `out` ``(k, c, n)``, by c inputs from the `first` on.

    Args:
        seen: ``(k, c, n)``, what the activation `kind` made, by whose slope that is multiplied; not looked at if that is none.
        adds: to what lies there, before it is multiplied.
    """
    given = {WEIGHT: weight, GIVEN: delta, RESULT: out, SEEN: seen}
    numbers = {WIDTH: out.shape[1], FROM: first, KIND: kind, ADDS: adds}
    return _job(BACK, given, weight.shape, delta, out.shape[1], weight.shape[1], numbers)


def learn_job(delta: Array, h: Array, gradient: Array, bias_gradient: Array) -> Array:
    """Write ``delta (k, o, n) @ h.T (1 or k, i, n)`` to `gradient` ``(k, o, i)``, the sums of `delta` to `bias_gradient`."""
    given = {GIVEN: delta, SEEN: h, RESULT: gradient, BIAS: bias_gradient}
    return _job(LEARN, given, gradient.shape, h, gradient.shape[1], gradient.shape[2], {})


def _job(
    work: Job,
    given: dict[int, Array],
    shape: tuple[int, ...],
    read: Array,
    many: int,
    inner: int,
    numbers: dict[int, int],
) -> Array:
    """The fields of a job that makes `many` rows for every member, as many of them a part for one thread as for several."""
    columns = read.shape[2]
    rows = max(1, min(many, max(4, -(-LEAST // max(1, inner * columns * 4)) * 4)))
    pieces = -(-many // rows)
    fields = {field: array.ctypes.data for field, array in given.items()} | numbers
    fields |= {WORK: work.address, MEMBERS: shape[0], OUT: shape[1], IN: shape[2], READ: len(read), COLUMNS: columns}
    fields |= {ROWS: rows, PIECES: pieces, PARTS: shape[0] * pieces}
    made = np.zeros(COUNT, np.int64)
    made[list(fields)] = list(fields.values())
    return made


@compiled
def perform(box, jobs):
    """Do jobs ``(.., COUNT)`` one after the other, each with the threads of a team."""
    for job in range(len(jobs)):
        fields = room(box)
        for i in range(COUNT):
            fields[i] = jobs[job, i]
        share(box, fields[WORK], fields, fields[PARTS])


@compiled
def forward(box, jobs, rows, columns, outputs):
    """Do jobs of which the first read `rows` ``(n, d)`` as `columns` ``(d, n)``, and the last write to the caller's `outputs`."""
    turned(rows, columns)
    first = len(jobs) - len(outputs)
    for i, output in enumerate(outputs):
        jobs[first + i, RESULT] = output.ctypes.data
    perform(box, jobs)


@compiled
def backward(box, jobs, deltas, slopes):
    """Do jobs of which some read the caller's `deltas` (`CALLERS`, from 1), and the last writes to its `slopes`, if there are any."""
    for job in range(len(jobs)):
        for i, delta in enumerate(deltas):
            if jobs[job, CALLERS] == i + 1:
                jobs[job, GIVEN] = delta.ctypes.data
    if len(slopes):
        jobs[len(jobs) - 1, RESULT] = slopes.ctypes.data
    perform(box, jobs)


@compiled
def _rows_of(fields, part, many):
    """The member of a part and its rows, of `many`: from the first to before the last."""
    member, low = part // fields[PIECES], part % fields[PIECES] * fields[ROWS]
    return member, low, min(low + fields[ROWS], many)


def _forward_part(pointer, part):
    fields = carray(pointer, (COUNT,))
    members, read, out, inner, n = fields[MEMBERS], fields[READ], fields[OUT], fields[IN], fields[COLUMNS]
    member, low, high = _rows_of(fields, part, out)
    weight = carray(numbers_at(fields[WEIGHT]), (members, out, inner))[member, low:high]
    bias = carray(numbers_at(fields[BIAS]), (members, out))[member, low:high]
    h = carray(numbers_at(fields[GIVEN]), (read, inner, n))[member if read > 1 else 0]
    rows = carray(numbers_at(fields[RESULT]), (members, out, n))[member, low:high]
    if n == 1:
        _multiply_one(weight, h, bias, rows)
    else:
        _multiply(weight, h, bias, rows, False)
    activate(rows.reshape(rows.size), fields[KIND])


def _back_part(pointer, part):
    fields = carray(pointer, (COUNT,))
    members, out, inner, n, width = fields[MEMBERS], fields[OUT], fields[IN], fields[COLUMNS], fields[WIDTH]
    member, low, high = _rows_of(fields, part, width)
    weight = carray(numbers_at(fields[WEIGHT]), (members, out, inner))[member].T[
        fields[FROM] + low : fields[FROM] + high
    ]
    delta = carray(numbers_at(fields[GIVEN]), (members, out, n))[member]
    rows = carray(numbers_at(fields[RESULT]), (members, width, n))[member, low:high]
    _multiply(weight, delta, np.zeros(high - low, np.float32), rows, fields[ADDS])
    if fields[KIND] >= 0:
        seen = carray(numbers_at(fields[SEEN]), (members, width, n))[member, low:high]
        multiply_by_slope(rows.reshape(rows.size), seen.reshape(seen.size), fields[KIND])


def _learn_part(pointer, part):
    fields = carray(pointer, (COUNT,))
    members, read, out, inner, n = fields[MEMBERS], fields[READ], fields[OUT], fields[IN], fields[COLUMNS]
    member, low, high = _rows_of(fields, part, out)
    gradient = carray(numbers_at(fields[RESULT]), (members, out, inner))[member, low:high]
    sums = carray(numbers_at(fields[BIAS]), (members, out))[member, low:high]
    h = carray(numbers_at(fields[SEEN]), (read, inner, n))[member if read > 1 else 0]
    delta = carray(numbers_at(fields[GIVEN]), (members, out, n))[member, low:high]
    _sum_products(delta, h, gradient)
    _sum_rows(delta, sums)


@compiled(fastmath=REORDERED)
def turned(rows, out):
    """Write `rows` ``(n, d)`` to `out` ``(d, n)``."""
    for i in range(out.shape[0]):
        for j in range(out.shape[1]):
            out[i, j] = rows[j, i]


@compiled(fastmath=REORDERED)
def _sum_rows(rows, sums):
    for r in range(len(rows)):
        row, total = rows[r], rows.dtype.type(0)
        for j in range(len(row)):
            total += row[j]
        sums[r] = total


@compiled(fastmath=REORDERED)
def _multiply(a, b, start, out, adds):
    many, inner = a.shape
    whole = inner - inner % 4
    for r in range(0, many - 3, 4):
        o0, o1, o2, o3 = out[r], out[r + 1], out[r + 2], out[r + 3]
        if not adds:
            o0[:], o1[:], o2[:], o3[:] = start[r], start[r + 1], start[r + 2], start[r + 3]
        for p in range(0, whole, 4):
            b0, b1, b2, b3 = b[p], b[p + 1], b[p + 2], b[p + 3]
            a00, a01, a02, a03 = a[r, p], a[r, p + 1], a[r, p + 2], a[r, p + 3]
            a10, a11, a12, a13 = a[r + 1, p], a[r + 1, p + 1], a[r + 1, p + 2], a[r + 1, p + 3]
            a20, a21, a22, a23 = a[r + 2, p], a[r + 2, p + 1], a[r + 2, p + 2], a[r + 2, p + 3]
            a30, a31, a32, a33 = a[r + 3, p], a[r + 3, p + 1], a[r + 3, p + 2], a[r + 3, p + 3]
            for j in range(len(b0)):
                x0, x1, x2, x3 = b0[j], b1[j], b2[j], b3[j]
                o0[j] += a00 * x0 + a01 * x1 + a02 * x2 + a03 * x3
                o1[j] += a10 * x0 + a11 * x1 + a12 * x2 + a13 * x3
                o2[j] += a20 * x0 + a21 * x1 + a22 * x2 + a23 * x3
                o3[j] += a30 * x0 + a31 * x1 + a32 * x2 + a33 * x3
        for p in range(whole, inner):
            b0 = b[p]
            a00, a10, a20, a30 = a[r, p], a[r + 1, p], a[r + 2, p], a[r + 3, p]
            for j in range(len(b0)):
                x0 = b0[j]
                o0[j] += a00 * x0
                o1[j] += a10 * x0
                o2[j] += a20 * x0
                o3[j] += a30 * x0
    for r in range(many - many % 4, many):
        o0 = out[r]
        if not adds:
            o0[:] = start[r]
        for p in range(0, whole, 4):
            b0, b1, b2, b3 = b[p], b[p + 1], b[p + 2], b[p + 3]
            a00, a01, a02, a03 = a[r, p], a[r, p + 1], a[r, p + 2], a[r, p + 3]
            for j in range(len(b0)):
                o0[j] += a00 * b0[j] + a01 * b1[j] + a02 * b2[j] + a03 * b3[j]
        for p in range(whole, inner):
            b0, a00 = b[p], a[r, p]
            for j in range(len(b0)):
                o0[j] += a00 * b0[j]


@compiled(fastmath=REORDERED)
def _multiply_one(a, b, start, out):
    """The same for a single sample: there is nothing beside it, so that sums are over numbers that lie side by side."""
    column = b.reshape(len(b))
    for r in range(len(a)):
        row, total = a[r], start[r]
        for p in range(len(row)):
            total += row[p] * column[p]
        out[r, 0] = total


@compiled(fastmath=REORDERED)
def _sum_products(a, b, out):
    """``a @ b.T`` of ``(o, n)`` and ``(i, n)``."""
    many, wide = out.shape
    if min(many, wide) < 4:
        for r in range(many):
            for p in range(wide):
                left, right, total = a[r], b[p], out.dtype.type(0)
                for j in range(len(left)):
                    total += left[j] * right[j]
                out[r, p] = total
        return
    for r in range(0, many, 4):
        for p in range(0, wide, 4):
            dot_tile(a, min(r, many - 4), b, min(p, wide - 4), out)  # the last ones overlap with those before
    n = a.shape[1]
    whole = n - n % LANES
    if whole < n:
        rest = np.empty((n - whole, wide), np.float32)
        turned(b[:, whole:], rest)
        _multiply(a[:, whole:], rest, np.empty(0, np.float32), out, True)


FORWARD, BACK, LEARN = Job(_forward_part), Job(_back_part), Job(_learn_part)
