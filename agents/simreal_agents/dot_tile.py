"""Four rows times four rows: the innermost part of `product_loops`' gradients, as instructions for LLVM.

A compiler that is given loops adds up each of the 16 sums over lanes for itself, for which a batch of 256 samples takes as
long as for a third of its multiplications. Here sums of neighbours are added up together, which leaves them side by side.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from llvmlite.binding import get_host_cpu_features
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

LANES = 16 if get_host_cpu_features().get("avx512f") else 8  # float32 numbers that are multiplied at once
TILE = 4
FUSED = ("contract",)  # a product and the sum that it is added to are rounded once
VECTOR, INDEX = ir.VectorType(ir.FloatType(), LANES), ir.IntType(32)


@intrinsic
def dot_tile(typing, a, r, b, p, out):
    """Write ``a[r : r + 4] @ b[p : p + 4].T`` to ``out[r : r + 4, p : p + 4]``, over whole groups of `LANES` columns alone.

    All are float32 and lie in memory without gaps.
    """
    if {(array.dtype, array.ndim, array.layout) for array in (a, b, out)} != {(types.float32, 2, "C")}:
        return None

    def build(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        number = context.get_value_type(types.intp)
        left, right, result = (context.make_array(sig.args[k])(context, builder, args[k]) for k in (0, 2, 4))

        def row(array: Any, place: Any) -> Any:
            return builder.gep(array.data, [builder.mul(place, builder.extract_value(array.shape, 1))])

        def rows(array: Any, first: Any) -> list[Any]:
            return [row(array, builder.add(first, number(k))) for k in range(TILE)]

        lefts, rights, results = rows(left, args[1]), rows(right, args[3]), rows(result, args[1])
        sums = [cgutils.alloca_once_value(builder, ir.Constant(VECTOR, [0.0] * LANES)) for _ in range(TILE * TILE)]
        n = builder.extract_value(left.shape, 1)
        whole = builder.sub(n, builder.srem(n, number(LANES)))
        with cgutils.for_range_slice(builder, number(0), whole, number(LANES), inc=True) as (column, _):

            def numbers(start: Any) -> Any:
                return builder.load(builder.bitcast(builder.gep(start, [column]), VECTOR.as_pointer()), align=4)

            factors = [numbers(start) for start in rights]
            for k, start in enumerate(lefts):
                own = numbers(start)
                for place, factor in zip(sums[k * TILE : (k + 1) * TILE], factors, strict=True):
                    product = builder.fmul(own, factor, flags=FUSED)
                    builder.store(builder.fadd(builder.load(place), product, flags=FUSED), place)
        vectors = _added_up(builder, [builder.load(place) for place in sums])
        for k, start in enumerate(results):
            vector, lane = divmod(k * TILE, LANES)
            four = _chosen(builder, vectors[vector], vectors[vector], range(lane, lane + TILE))
            builder.store(four, builder.bitcast(builder.gep(start, [args[3]]), four.type.as_pointer()), align=4)
        return context.get_dummy_value()

    return types.none(a, types.intp, b, types.intp, out), build


def _added_up(builder: Any, vectors: list[Any]) -> list[Any]:
    """The sums over the lanes of each vector, in their order, `LANES` of them in a vector."""
    segment = LANES  # lanes that belong to one sum
    while segment > 1:
        half = segment // 2
        lows = [start + lane for start in range(0, 2 * LANES, segment) for lane in range(half)]
        highs = [lane + half for lane in lows]
        vectors = [
            builder.fadd(_chosen(builder, one, other, lows), _chosen(builder, one, other, highs))
            for one, other in zip(vectors[::2], vectors[1::2], strict=True)
        ]
        segment = half
    return vectors


def _chosen(builder: Any, one: Any, other: Any, lanes: Any) -> Any:
    """A vector of some lanes of two vectors, which are counted on from one to the other."""
    lanes = list(lanes)
    return builder.shuffle_vector(one, other, ir.Constant(ir.VectorType(INDEX, len(lanes)), lanes))
