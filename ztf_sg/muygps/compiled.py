"""Neighbour search and posterior of local Gaussian processes, compiled by numba.

Vectors are written out, because LLVM makes them of longer loops only. Offsets count the numbers of an array
from the first one, and are not checked. Threads may run side by side.
"""

import operator

import numpy as np
from llvmlite import ir
from numba import float32, types
from numba.extending import intrinsic, models, overload, register_model

from ztf_sg.compilation import compiled, inlined

LANES = 8  # queries whose posterior is computed together, each as if alone
FORMULA = {0.5: 0, 1.5: 1, 2.5: 2, np.inf: 3}  # by smoothness
WIDTH = 32  # points of a block, and blocks of a group
ROOM = 8 * WIDTH  # candidates beyond the wanted ones that are collected before the nearest are chosen
ROUNDING, UNDERFLOW = 2.0**-23, 1e-35  # of single precision, relative and of squares, with a margin
LOWEST_BIT = np.uint64(1)


class Vector(types.Type):
    """Vector of `length` numbers, a power of two, with the operators +, - and *."""

    def __init__(self, dtype, length):
        self.dtype, self.length = dtype, length
        super().__init__(name=f"Vector({dtype}, {length})")


@register_model(Vector)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, manager, vector):
        number = manager.lookup(vector.dtype).get_value_type()
        super().__init__(manager, vector, ir.VectorType(number, vector.length))


@intrinsic(prefer_literal=True)
def load(typing, array, offset, length):
    """Return the vector of `length` numbers from an offset on in a contiguous array."""
    vector = Vector(array.dtype, length.literal_value)

    def generate(context, builder, signature, arguments):
        pointer = _pointer(context, builder, vector, array, *arguments[:2])
        return builder.load(pointer, align=array.dtype.bitwidth // 8)

    return (vector(array, types.intp, length), generate) if array.layout == "C" else None


@intrinsic
def store(typing, vector, array, offset):
    """Write a vector from an offset on in a contiguous array."""

    def generate(context, builder, signature, arguments):
        pointer = _pointer(context, builder, vector, array, *arguments[1:])
        builder.store(arguments[0], pointer, align=array.dtype.bitwidth // 8)
        return context.get_dummy_value()

    return (types.none(vector, array, types.intp), generate) if array.layout == "C" else None


@intrinsic(prefer_literal=True)
def broadcast(typing, number, length):
    """Return a vector of `length` times the same number."""
    vector = Vector(types.unliteral(number), length.literal_value)
    return vector(vector.dtype, length), lambda _, builder, __, values: _broadcast(
        builder, values[0], vector.length
    )


@intrinsic
def maximum(typing, left, right):
    """Return the larger number in each lane of two vectors, the right one if one is NaN."""

    def generate(context, builder, signature, pair):
        return builder.select(builder.fcmp_ordered(">", *pair), *pair)

    return left(left, right), generate


@intrinsic
def less_equal_mask(typing, vector, limit):
    """Return which of up to 64 numbers are at most a limit, as the bits of an unsigned integer."""

    def generate(context, builder, signature, arguments):
        limits = _broadcast(builder, arguments[1], vector.length)
        found = builder.fcmp_ordered("<=", arguments[0], limits)
        return builder.zext(builder.bitcast(found, ir.IntType(vector.length)), ir.IntType(64))

    return types.uint64(vector, vector.dtype), generate


@intrinsic
def first_bit(typing, bits):
    """Return the number of the lowest bit that is set; one must be."""
    never_zero = ir.Constant(ir.IntType(1), 1)
    return types.intp(types.uint64), lambda _, builder, __, bits: builder.cttz(*bits, never_zero)


@intrinsic
def count_bits(typing, bits):
    """Return how many bits are set."""
    return types.intp(types.uint64), lambda _, builder, __, bits: builder.ctpop(*bits)


def _pointer(context, builder, vector, array_type, array, offset):
    data = context.make_array(array_type)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [offset]), context.get_value_type(vector).as_pointer())


def _broadcast(builder, number, length):
    vector = ir.VectorType(number.type, length)
    first = builder.insert_element(ir.Constant(vector, ir.Undefined), number, ir.IntType(32)(0))
    from_first = ir.Constant(ir.VectorType(ir.IntType(32), length), [0] * length)
    return builder.shuffle_vector(first, first, from_first)


def _define(symbol, instruction):
    """Give vectors an operator; LLVM may fuse a product and a sum."""

    @intrinsic
    def calculate(typing, left, right):
        def generate(context, builder, signature, arguments):
            return getattr(builder, instruction)(*arguments, flags=("contract",))

        return left(left, right), generate

    @overload(symbol)
    def implement(left, right):
        if isinstance(left, Vector) and left == right:
            return lambda left, right: calculate(left, right)


for _symbol, _instruction in ((operator.add, "fadd"), (operator.sub, "fsub"), (operator.mul, "fmul")):
    _define(_symbol, _instruction)


@inlined
def _squared_to_boxes(sides, part, x, query):
    """Return the squared distances of a query to `WIDTH` boxes, NaN where there is none."""
    low = part * 2 * x.shape[1] * WIDTH
    high = low + x.shape[1] * WIDTH
    zero = broadcast(float32(0), WIDTH)
    squared = zero
    for feature in range(x.shape[1]):
        at = broadcast(x[query, feature], WIDTH)
        outside = maximum(zero, maximum(load(sides, low, WIDTH) - at, at - load(sides, high, WIDTH)))
        squared = squared + outside * outside
        low, high = low + WIDTH, high + WIDTH
    return squared


@inlined
def _squared_to_points(blocks, block, x, query):
    """Return the squared distances of a query to the points of a block."""
    offset = block * x.shape[1] * WIDTH
    squared = broadcast(float32(0), WIDTH)
    for feature in range(x.shape[1]):
        difference = broadcast(x[query, feature], WIDTH) - load(blocks, offset, WIDTH)
        squared = squared + difference * difference
        offset += WIDTH
    return squared


@compiled
def search(blocks, block_sides, group_sides, points, rows, unit, x, largest, X, distances, indices):
    """Write distances and rows, (m, count), of the points of a `BlockIndex` nearest to queries X.

    The distances to a few near blocks, in single precision, give a limit that covers the wanted points. All
    points within it are candidates, whose distances are computed anew in double precision. `x` are the
    queries in the axes and unit of the index, and `largest` their largest numbers, (m,).
    """
    (m, n_features), count = X.shape, distances.shape[1]
    bounds = np.empty((m, len(group_sides) * WIDTH), dtype=np.float32)  # of squared distances to groups
    limits = np.empty(m, dtype=np.float32)
    for query in range(m):
        for part in range(len(group_sides)):
            offset = query * bounds.shape[1] + part * WIDTH
            store(_squared_to_boxes(group_sides, part, x, query), bounds, offset)
    _limit(blocks, block_sides, x, bounds, count, limits)
    for query in range(m):
        limits[query] = _widened(limits[query], largest[query], n_features)

    candidates, found = np.empty((m, count + ROOM + WIDTH), dtype=np.intp), np.zeros(m, dtype=np.intp)
    exact = np.empty(candidates.shape[1])
    for group in range(len(block_sides)):  # the outer loop, so that its points stay in the processor's cache
        for query in range(m):
            if not bounds[query, group] <= limits[query]:
                continue
            n = found[query]
            bits = less_equal_mask(_squared_to_boxes(block_sides, group, x, query), limits[query])
            while bits:
                block = group * WIDTH + first_bit(bits)
                bits &= bits - LOWEST_BIT
                inside = less_equal_mask(_squared_to_points(blocks, block, x, query), limits[query])
                while inside:
                    candidates[query, n] = block * WIDTH + first_bit(inside)
                    inside &= inside - LOWEST_BIT
                    n += 1
                if n > count + ROOM:
                    _sort(candidates[query], exact, n, points, X[query])
                    n = count
                    limit = _widened(exact[count - 1] / unit**2, largest[query], n_features)
                    limits[query] = min(limits[query], limit)
            found[query] = n
    for query in range(m):
        _sort(candidates[query], exact, found[query], points, X[query])
        for rank in range(min(found[query], count)):
            distances[query, rank] = np.sqrt(exact[rank])
            indices[query, rank] = rows[candidates[query, rank]]


@compiled
def _limit(blocks, block_sides, x, bounds, count, limits):
    """Write a squared distance per query within which `count` points of a few near blocks lie."""
    near_blocks = 16 + 2 * count // WIDTH
    near_groups = 1 + near_blocks // 16
    groups = np.empty(4 * near_groups, dtype=np.intp)
    block_bounds = np.empty(len(groups) * WIDTH, dtype=np.float32)
    squared = np.empty(2 * near_blocks * WIDTH, dtype=np.float32)
    group_limit = block_limit = limit = float32(1)
    for query in range(len(x)):
        group_limit = _threshold(bounds[query], bounds.shape[1], near_groups, 1, group_limit)
        n = 0
        for group in range(bounds.shape[1]):
            if bounds[query, group] <= group_limit and n < len(groups) * WIDTH:
                groups[n // WIDTH] = group
                store(_squared_to_boxes(block_sides, group, x, query), block_bounds, n)
                n += WIDTH
        block_limit = _threshold(block_bounds, n, near_blocks, 4, block_limit)
        n_squared = 0
        for start in range(0, n, WIDTH):
            bits = less_equal_mask(load(block_bounds, start, WIDTH), block_limit)
            while bits and n_squared < len(squared):
                block = groups[start // WIDTH] * WIDTH + first_bit(bits)
                bits &= bits - LOWEST_BIT
                store(_squared_to_points(blocks, block, x, query), squared, n_squared)
                n_squared += WIDTH
        limits[query] = limit = _threshold(squared, n_squared, count, 8, limit)


@compiled
def select(bounds, points, unit, X, distances, indices):
    """Write the same as `search` from lower bounds of the squared distances of a `MatrixIndex`, (m, n).

    The points with the least bounds are candidates, and more of them while another one could be nearer.
    """
    count = distances.shape[1]
    candidates = np.empty(count + ROOM + WIDTH, dtype=np.intp)
    exact = np.empty(len(candidates))
    guess = float32(1)
    for query in range(len(X)):
        values = bounds[query]
        guess = _threshold(values, len(values), count, count, guess)
        limit, sure = guess, False
        while limit < np.inf and not sure:
            n, last = 0, limit
            for start in range(0, len(values), WIDTH):
                bits = less_equal_mask(load(values, start, WIDTH), limit)
                while bits:
                    candidates[n] = start + first_bit(bits)
                    bits &= bits - LOWEST_BIT
                    n += 1
                if n > count + ROOM:
                    _sort(candidates, exact, n, points, X[query])
                    n = count
            _sort(candidates, exact, n, points, X[query])
            limit = float32(exact[count - 1] / unit**2 * (1 + 2 * ROUNDING))
            sure = limit <= last
        for rank in range(count if sure else 0):
            distances[query, rank], indices[query, rank] = np.sqrt(exact[rank]), candidates[rank]


@compiled
def _threshold(values, n, count, spare, guess):
    """Return a limit that `count` of n values do not exceed, and at most `spare` more if possible."""
    low, high = float32(0), float32(np.inf)
    middle = guess if 1e-9 < guess < np.inf else float32(1)  # a smaller guess would take many steps
    for _ in range(40):
        within = 0
        for start in range(0, n, WIDTH):
            within += count_bits(less_equal_mask(load(values, start, WIDTH), middle))
        if within < count:
            low = middle
        else:
            high = middle
            if within <= count + spare:
                break
        middle = low + low if high == np.inf else (low + high) / float32(2)
    return high


@compiled
def _widened(squared, largest, n_features):
    """Return a limit of squared distances with the rounding errors of single precision added.

    Points within it exceed the query's `largest` number by at most the distance; per feature, two numbers and
    their difference are rounded.
    """
    distance = np.sqrt(np.float64(squared))
    slack = 2 * np.sqrt(n_features) * ROUNDING * (2 * largest + distance)
    return float32((distance + slack) ** 2 * (1 + (n_features + 16) * 4 * ROUNDING) + UNDERFLOW)


@compiled
def _sort(candidates, squared, n, points, q):
    """Sort n candidates by their squared distances, which it writes; equally far ones keep their order."""
    found, exact = np.zeros(n, dtype=np.intp), np.empty(n + WIDTH)
    exact[n:] = np.nan  # not within any limit
    for one in range(n):
        exact[one] = 0
        for feature in range(len(q)):
            exact[one] += (points[candidates[one], feature] - q[feature]) ** 2
    for one in range(n - 1, -1, -1):
        rank = 0
        for start in range(0, n, WIDTH):
            rank += count_bits(less_equal_mask(load(exact, start, WIDTH), exact[one]))
        while found[rank - 1]:  # by another one that is as far and came after
            rank -= 1
        found[rank - 1], squared[rank - 1] = candidates[one] + 1, exact[one]
    for rank in range(n):
        candidates[rank] = found[rank] - 1


@compiled
def posterior(X, points, targets, indices, formula, factor, noise, mean, variance):
    r"""Write mean and variance of Gaussian processes conditioned on the neighbours of each query.

    With the covariance :math:`K` of the neighbours, noise included, their covariance :math:`k` with the query
    and their targets :math:`y`, the last rows of the Cholesky factor of

    .. math:: \begin{pmatrix} K & k & y \\ k^T & a & 0 \\ y^T & 0 & b \end{pmatrix} = L L^T

    are :math:`v = L_K^{-1} k` and :math:`w = L_K^{-1} y`, whatever a and b are; the mean is :math:`v w` and
    the variance :math:`1 - v v` (Rasmussen & Williams 2006, algorithm 2.1). Queries X (m, n_features); rows
    of their neighbours (m, nn); noise and variance in units of the prior variance. Results (m,) are NaN where
    the noise is too small for such close neighbours.
    """
    nn_count, n_features = indices.shape[1], X.shape[1]
    offsets = np.zeros((nn_count + 1, n_features, LANES))  # the last one is the query, the origin
    matrix = np.empty(((nn_count + 2) * (nn_count + 3) // 2, LANES))  # lower triangle, row by row
    query, target = (nn_count * (nn_count + 1)) // 2, ((nn_count + 1) * (nn_count + 2)) // 2
    for start in range(0, len(X), LANES):
        for lane in range(LANES):
            row = min(start + lane, len(X) - 1)
            for one in range(nn_count):
                index = indices[row, one]
                matrix[target + one, lane] = targets[index]
                for feature in range(n_features):
                    offsets[one, feature, lane] = points[index, feature] - X[row, feature]
        for one in range(nn_count + 1):
            for other in range(one):
                squared = _squared_between(offsets, one, other, n_features)
                store(squared, matrix, (one * (one + 1) // 2 + other) * LANES)
        _correlate(formula, factor, matrix[:target].reshape(-1))
        _factorize(matrix, nn_count, noise)
        for lane in range(min(LANES, len(X) - start)):
            covered, weighted = 0.0, 0.0
            for one in range(nn_count):
                covered += matrix[query + one, lane] ** 2
                weighted += matrix[query + one, lane] * matrix[target + one, lane]
            mean[start + lane], variance[start + lane] = weighted, max(1 - covered, 0.0)


@inlined
def _factorize(matrix, nn_count, noise):
    """Replace the lower triangle by L, with its diagonal inverted, in all lanes."""
    for one in range(nn_count + 2):
        above = one * (one + 1) // 2 * LANES
        for other in range(min(one, nn_count)):
            left, offset = other * (other + 1) // 2 * LANES, above + other * LANES
            value = load(matrix, offset, LANES) - _product(matrix, above, left, other)
            store(value * load(matrix, left + other * LANES, LANES), matrix, offset)
        if one < nn_count:
            value = broadcast(1 + noise, LANES) - _product(matrix, above, above, one)
            store(value, matrix, above + one * LANES)
            for lane in range(LANES):
                matrix[above // LANES + one, lane] = 1 / np.sqrt(matrix[above // LANES + one, lane])


@inlined
def _squared_between(offsets, one, other, n_features):
    """Return the squared distances of two neighbours, in all lanes."""
    left, right = one * n_features * LANES, other * n_features * LANES
    squared = broadcast(0.0, LANES)
    for _ in range(n_features):
        difference = load(offsets, left, LANES) - load(offsets, right, LANES)
        squared = squared + difference * difference
        left, right = left + LANES, right + LANES
    return squared


@inlined
def _product(matrix, left, right, count):
    """Return the sum of `count` products of numbers from two offsets on, in all lanes."""
    products = broadcast(0.0, LANES)
    for step in range(0, count * LANES, LANES):
        products = products + load(matrix, left + step, LANES) * load(matrix, right + step, LANES)
    return products


@compiled
def _correlate(formula, factor, squared):
    r"""Replace squared distances by Matern correlations.

    Of distances r in units of the length scale, with :math:`s = r \sqrt{2 \nu}`: :math:`e^{-s}` for the
    smoothness :math:`\nu = 1/2`, :math:`(1 + s) e^{-s}` for 3/2, :math:`(1 + s + s^2/3) e^{-s}` for 5/2, and
    :math:`e^{-r^2/2}` for infinity (Rasmussen & Williams 2006, section 4.2.1); `factor` gives :math:`s^2`, or
    :math:`r^2/2`. Vectors can compute the exponential as the 1024th power of its series, good to 1e-12; the
    exponent is at least -700.
    """
    for index in range(len(squared)):
        s = squared[index] * factor
        x = s if formula == 3 else np.sqrt(s)
        y = min(x, 700.0) / 1024
        series = ((1 / 40320 * y - 1 / 5040) * y + 1 / 720) * y - 1 / 120  # the powers from 8 to 5
        series = ((((series * y + 1 / 24) * y - 1 / 6) * y + 1 / 2) * y - 1) * y + 1
        for _ in range(10):
            series *= series
        if formula == 1:
            series *= 1 + x
        elif formula == 2:
            series *= 1 + x + s / 3
        squared[index] = series
