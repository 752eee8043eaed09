"""Vectors of numbers for code compiled by numba, kept in the registers of the processor.

LLVM, which numba compiles with, spreads a vector over as many registers as it needs, whatever their width
is. Left to itself it finds no vectors in loops as short as those of :mod:`ztf_sg.muygps.compiled`. Places
in arrays are counted in numbers, from the first one on, and are not checked.
"""

import operator

from llvmlite import ir
from numba import types
from numba.core.cgutils import get_or_insert_function
from numba.extending import intrinsic, models, overload, register_model

OPERATORS = {operator.add: "fadd", operator.sub: "fsub", operator.mul: "fmul", operator.truediv: "fdiv"}


class Vector(types.Type):
    """Type of a power of two numbers of the type `dtype`; vectors have the operators +, -, * and /."""

    def __init__(self, dtype, length):
        self.dtype, self.length = dtype, length
        super().__init__(name=f"Vector({dtype}, {length})")


@register_model(Vector)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, manager, vector):
        number = manager.lookup(vector.dtype).get_value_type()
        super().__init__(manager, vector, ir.VectorType(number, vector.length))


@intrinsic(prefer_literal=True)
def load(typing, array, place, length):
    """Return the `length` numbers of a contiguous array, as if flat, from a place on."""
    if array.layout != "C":
        return None  # no such function
    vector = Vector(array.dtype, length.literal_value)

    def generate(context, builder, signature, arguments):
        pointer = _pointer(context, builder, vector, array, *arguments[:2])
        return builder.load(pointer, align=array.dtype.bitwidth // 8)

    return vector(array, types.intp, length), generate


@intrinsic
def store(typing, vector, array, place):
    """Write a vector to a contiguous array, as if flat, from a place on."""
    if array.layout != "C":
        return None  # no such function

    def generate(context, builder, signature, arguments):
        pointer = _pointer(context, builder, vector, array, *arguments[1:])
        builder.store(arguments[0], pointer, align=array.dtype.bitwidth // 8)
        return context.get_dummy_value()

    return types.none(vector, array, types.intp), generate


@intrinsic(prefer_literal=True)
def spread(typing, number, length):
    """Return a vector of `length` times the same number."""
    vector = Vector(types.unliteral(number), length.literal_value)

    def generate(context, builder, signature, arguments):
        return _spread(builder, arguments[0], vector.length)

    return vector(vector.dtype, length), generate


@intrinsic
def larger(typing, left, right):
    """Return the larger number at each place of two vectors, the right one unless the left one is larger."""

    def generate(context, builder, signature, arguments):
        return builder.select(builder.fcmp_ordered(">", *arguments), *arguments)

    return left(left, right), generate


@intrinsic
def square_root(typing, vector):
    """Return the square roots of a vector."""

    def generate(context, builder, signature, arguments):
        kind = arguments[0].type
        name = f"llvm.sqrt.v{vector.length}f{vector.dtype.bitwidth}"
        function = get_or_insert_function(builder.module, ir.FunctionType(kind, [kind]), name)
        return builder.call(function, arguments)

    return vector(vector), generate


@intrinsic
def total(typing, vector):
    """Return the sum of the numbers of a vector."""

    def generate(context, builder, signature, arguments):
        places = [ir.IntType(32)(place) for place in range(vector.length)]
        numbers = [builder.extract_element(arguments[0], place) for place in places]
        while len(numbers) > 1:
            numbers = [builder.fadd(*pair) for pair in zip(numbers[::2], numbers[1::2], strict=True)]
        return numbers[0]

    return vector.dtype(vector), generate


@intrinsic
def up_to(typing, vector, limit):
    """Return which of up to 64 numbers are not above a limit, as the bits of an unsigned integer."""

    def generate(context, builder, signature, arguments):
        limits = _spread(builder, arguments[1], vector.length)
        found = builder.fcmp_ordered("<=", arguments[0], limits)
        return builder.zext(builder.bitcast(found, ir.IntType(vector.length)), ir.IntType(64))

    return types.uint64(vector, vector.dtype), generate


@intrinsic
def first_bit(typing, bits):
    """Return the place of the first bit that is set; one must be."""

    def generate(context, builder, signature, arguments):
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 1))

    return types.intp(types.uint64), generate


@intrinsic
def count_bits(typing, bits):
    """Return how many bits are set."""

    def generate(context, builder, signature, arguments):
        return builder.ctpop(arguments[0])

    return types.intp(types.uint64), generate


def _pointer(context, builder, vector, array_type, array, place):
    data = context.make_array(array_type)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [place]), context.get_value_type(vector).as_pointer())


def _spread(builder, number, length):
    kind = ir.VectorType(number.type, length)
    first = builder.insert_element(ir.Constant(kind, ir.Undefined), number, ir.IntType(32)(0))
    places = ir.Constant(ir.VectorType(ir.IntType(32), length), [0] * length)
    return builder.shuffle_vector(first, first, places)


def _define(symbol, instruction):
    """Give vectors an operator, of which LLVM may fuse a product and a sum."""

    @intrinsic
    def calculate(typing, left, right):
        def generate(context, builder, signature, arguments):
            return getattr(builder, instruction)(*arguments, flags=("contract",))

        return left(left, right), generate

    @overload(symbol)
    def implement(left, right):
        if isinstance(left, Vector) and left == right:
            return lambda left, right: calculate(left, right)


for _symbol, _instruction in OPERATORS.items():
    _define(_symbol, _instruction)
