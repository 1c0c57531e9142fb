"""Compiled loops over the cells of a cross block; imported only when a product is taken.

LLVM does not put a loop over the columns of a row-major array into vector registers when the row is
found through an index, and unrolled scalars stay scalars. So the sums are written on a type of their
own, `Lanes`: a row of 1 to 16 neighbouring numbers in one LLVM vector. LLVM splits it into registers
of the processor at hand.

All kernels read a pattern stored in tiles, see `products.TiledPattern`: the cells of output level i
whose input level lies in tile t are ``idx[ptr[s]:ptr[s + 1]]`` with s = t*m_out + i, relative to the
first level of the tile.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numba as nb
from llvmlite import ir  # type: ignore[import-untyped]
from numba.core import types
from numba.extending import intrinsic, models, register_model

PIECE = 16

_jit = nb.njit(cache=True, nogil=True)
_inlined = nb.njit(cache=True, nogil=True, forceinline=True)
_intrinsic: Any = intrinsic(prefer_literal=True)


class Lanes(types.Type):
    """The numba type of ``width`` numbers of one floating type in one LLVM vector."""

    def __init__(self, dtype: Any, width: int) -> None:
        self.dtype, self.width = dtype, width
        super().__init__(name=f"Lanes({dtype}, {width})")


@register_model(Lanes)
class LanesModel(models.PrimitiveModel):
    """Lanes are passed around as the LLVM vector itself."""

    def __init__(self, dmm: Any, fe_type: Lanes) -> None:
        element = ir.FloatType() if fe_type.dtype is types.float32 else ir.DoubleType()
        super().__init__(dmm, fe_type, ir.VectorType(element, fe_type.width))  # type: ignore[no-untyped-call]


def _address(context: Any, builder: Any, signature: Any, args: Any, vector: Any) -> Any:
    """Return the address of array[offset], the first two arguments, as that of a vector."""
    data = context.make_array(signature.args[0])(context, builder, args[0]).data
    return builder.bitcast(builder.gep(data, [args[1]]), vector.as_pointer())


@_intrinsic
def lanes_zero(typing, like, width):  # type: ignore[no-untyped-def]
    """Return ``width`` zeros of the dtype of the array ``like``."""
    lanes = Lanes(like.dtype, width.literal_value)

    def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]
        return ir.Constant(context.get_value_type(lanes), None)

    return lanes(like, width), codegen


@_intrinsic
def lanes_store(typing, array, offset, lanes):  # type: ignore[no-untyped-def]
    """Write the lanes to array[offset:offset + width] of a one-dimensional array."""

    def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]
        address = _address(context, builder, signature, args, args[2].type)
        builder.store(args[2], address, align=array.dtype.bitwidth // 8)
        return context.get_dummy_value()

    return types.void(array, types.intp, lanes), codegen


@_intrinsic
def lanes_add(typing, a, b):  # type: ignore[no-untyped-def]
    """Return a + b."""

    def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]
        return builder.fadd(*args)

    return a(a, b), codegen


@_intrinsic
def lanes_subtract(typing, a, b):  # type: ignore[no-untyped-def]
    """Return a - b."""

    def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]
        return builder.fsub(*args)

    return a(a, b), codegen


@_intrinsic
def lanes_add_at(typing, array, offset, total):  # type: ignore[no-untyped-def]
    """Return total + array[offset:offset + width] of a one-dimensional array."""

    def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]
        address = _address(context, builder, signature, args, args[2].type)
        return builder.fadd(args[2], builder.load(address, align=array.dtype.bitwidth // 8))

    return total(array, types.intp, total), codegen


@_intrinsic
def lanes_add_scaled_at(typing, array, offset, total, factor):  # type: ignore[no-untyped-def]
    """Return total + factor * array[offset:offset + width] for a number ``factor`` of any type."""

    def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]
        vector = args[2].type
        address = _address(context, builder, signature, args, vector)
        row = builder.load(address, align=array.dtype.bitwidth // 8)
        number = context.cast(builder, args[3], signature.args[3], total.dtype)
        first = builder.insert_element(ir.Constant(vector, ir.Undefined), number, ir.IntType(32)(0))
        everywhere = ir.Constant(ir.VectorType(ir.IntType(32), total.width), None)
        factors = builder.shuffle_vector(first, ir.Constant(vector, ir.Undefined), everywhere)
        return builder.fadd(args[2], builder.fmul(factors, row, flags=("contract",)), flags=("contract",))

    return total(array, types.intp, total, factor), codegen


@_inlined
def add_cells(total, idx, values, x, base, width, a, k_in, ones, start, stop):  # type: ignore[no-untyped-def]
    """Return total + Σ Σ_b values[e, a, b] x_jb over the cells e from start to stop."""
    for e in range(nb.uintp(start), nb.uintp(stop)):  # unsigned: no test for indices that count from the end
        source = base + nb.intp(idx[e]) * (k_in * width)
        if ones:
            total = lanes_add_at(x, source, total)
        else:
            for b in range(k_in):
                total = lanes_add_scaled_at(x, source + b * width, total, values[e, a, b])
    return total


@cache
def cell_sums(width: int, k_out: int, k_in: int, ones: bool) -> Any:
    """Return the kernel of the products, for cells a_ij stored as (nb, k_out, k_in) or all equal to 1.

    For x (m_in*k_in, width) flattened it writes Σ_j a_ij x_j for the levels i from first to last into the
    ``width`` columns from ``column`` on of y, (m_out*k_out, stride) flattened.

    Each tile of a row is summed from zero, in the order of the cells, in pieces of 16 cells; the
    sums of the pieces are added with what the additions before have lost (Kahan). So the error does
    not grow with the length of a row.
    """

    @_jit
    def kernel(ptr, idx, values, tile, x, y, stride, column, first, last):  # type: ignore[no-untyped-def]
        m_out = len(y) // (stride * k_out)
        zero = lanes_zero(x, width)
        for t in range((len(ptr) - 1) // m_out):
            base = t * tile * k_in * width
            for i in range(first, last):
                s = t * m_out + i
                if t > 0 and ptr[s] == ptr[s + 1]:
                    continue
                for a in range(k_out):
                    total = lost = zero
                    start, stop = ptr[s], ptr[s + 1]
                    while stop - start > PIECE:
                        part = add_cells(zero, idx, values, x, base, width, a, k_in, ones, start, start + PIECE)
                        part = lanes_subtract(part, lost)
                        larger = lanes_add(total, part)
                        lost = lanes_subtract(lanes_subtract(larger, total), part)
                        total = larger
                        start += PIECE
                    part = lanes_subtract(zero, lost)
                    part = add_cells(part, idx, values, x, base, width, a, k_in, ones, start, stop)
                    total = lanes_add(total, part)
                    target = (i * k_out + a) * stride + column
                    if t > 0:
                        total = lanes_add_at(y, target, total)
                    lanes_store(y, target, total)

    return kernel


@cache
def quadratic_sums(k_out: int, k_in: int) -> Any:
    """Return the kernel that fills out[i] = Σ_j a_ij B_j a_ij' for the levels i from first to last.

    The cells are stored as (nb, k_out, k_in), B is (m_in, k_in, k_in) and out (m_out, k_out, k_out).
    """

    @_jit
    def kernel(ptr, idx, values, tile, B, out, first, last):  # type: ignore[no-untyped-def]
        m_out = len(out)
        out[first:last] = 0.0
        for t in range((len(ptr) - 1) // m_out):
            for i in range(first, last):
                s = t * m_out + i
                for a in range(k_out):
                    for b in range(k_out):
                        total = 0.0
                        for e in range(nb.uintp(ptr[s]), nb.uintp(ptr[s + 1])):
                            middle = B[t * tile + nb.intp(idx[e])]
                            for c in range(k_in):
                                for d in range(k_in):
                                    total += values[e, a, c] * middle[c, d] * values[e, b, d]
                        out[i, a, b] += total

    return kernel


@_jit
def count_cells(outs, ins, tile, m_out, ptr) -> None:  # type: ignore[no-untyped-def]
    """Fill ptr, (tiles*m_out + 1,), with the first cell of each output level in each tile of input levels.

    ``outs`` and ``ins``, (nb,), are the levels of the cells.
    """
    ptr[:] = 0
    for e in range(len(outs)):
        ptr[ins[e] // tile * m_out + outs[e] + 1] += 1
    for s in range(len(ptr) - 1):
        ptr[s + 1] += ptr[s]


@_jit
def place_cells(outs, ins, tile, m_out, ptr, idx) -> None:  # type: ignore[no-untyped-def]
    """Fill idx, (nb,), with the input levels inside their tile, in the order that ``ptr`` describes."""
    free = ptr[:-1].copy()
    for e in range(len(outs)):
        t = ins[e] // tile
        s = t * m_out + outs[e]
        idx[free[s]] = ins[e] - t * tile
        free[s] += 1


@_jit
def place_values(outs, ins, tile, m_out, ptr, values, placed) -> None:  # type: ignore[no-untyped-def]
    """Fill placed, (nb, k_out, k_in), with the values of the cells in the order that ``ptr`` describes."""
    free = ptr[:-1].copy()
    for e in range(len(outs)):
        s = ins[e] // tile * m_out + outs[e]
        for a in range(placed.shape[1]):
            for b in range(placed.shape[2]):
                placed[free[s], a, b] = values[e, a, b]
        free[s] += 1
