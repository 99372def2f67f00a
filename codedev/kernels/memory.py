"""Wide reads and writes for kernels that work on bytes: unaligned words, the lowest set bit, comparisons of 64 bytes at a time.

A kernel takes arrays and makes a view of each, an address and a number of bytes, for the functions that it calls: numba counts the
references to an array at every call (measured: half the speed of reading text). The arrays must outlive the kernel, as its arguments do.
Functions that read a view are named by the width of its elements in bits; an index is an int64 of at least zero. They are as safe as
indexing: with NUMBA_BOUNDSCHECK=1 (and a cache of its own: numba's does not ask for it) each raises IndexError instead of passing the
view's end. The vectors are plain LLVM IR, which becomes AVX-512, AVX2, SSE2 or NEON.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

_intrinsic: Callable[[Callable[..., Any]], Any] = intrinsic
_I1, _I8, _I32, _I64 = ir.IntType(1), ir.IntType(8), ir.IntType(32), ir.IntType(64)
_BYTES64 = ir.VectorType(_I8, 64)
_WORDS16 = ir.VectorType(_I32, 16)
_VIEW: Any = types.UniTuple(types.int64, 2)  # type: ignore[no-untyped-call]


@_intrinsic
def view(typingctx: Any, array: Any) -> Any:
    """(address, bytes) of a contiguous array of any element type."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        parts = context.make_array(array)(context, builder, args[0])
        size = builder.mul(parts.nitems, parts.itemsize)
        return context.make_tuple(builder, _VIEW, [builder.ptrtoint(parts.data, _I64), size])

    return _VIEW(array), codegen


def _load(context: Any, builder: Any, place: Any, index: Any, scale: int, kind: Any, size: int, align: int) -> Any:
    """What stands at the `index`-th element of `scale` bytes, `size` bytes of it."""
    pointer = _place(context, builder, place, index, scale, size)
    value = builder.load(builder.inttoptr(pointer, kind.as_pointer()), typ=kind)
    value.align = align
    return value


def _place(context: Any, builder: Any, place: Any, index: Any, scale: int, size: int) -> Any:
    address, length = builder.extract_value(place, 0), builder.extract_value(place, 1)
    offset = builder.mul(index, _I64(scale)) if scale > 1 else index
    if context.enable_boundscheck:
        cgutils.do_boundscheck(context, builder, offset, length)  # type: ignore[no-untyped-call]
        cgutils.do_boundscheck(context, builder, builder.add(offset, _I64(size - 1)), length)  # type: ignore[no-untyped-call]
    return builder.add(address, offset)


def _peek(bits: int, scale: int, result: Any, doc: str) -> Any:
    kind = ir.IntType(bits)

    def peek(typingctx: Any, place: Any, index: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            value = _load(context, builder, args[0], args[1], scale, kind, bits // 8, scale)
            return value if bits == 64 else builder.zext(value, _I64)

        return result(_VIEW, types.int64), codegen

    peek.__doc__ = doc
    return _intrinsic(peek)


def _poke(bits: int, source: Any, doc: str) -> Any:
    kind = ir.IntType(bits)

    def poke(typingctx: Any, place: Any, index: Any, value: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            pointer = _place(context, builder, args[0], args[1], bits // 8, bits // 8)
            cut = args[2] if bits == 64 else builder.trunc(args[2], kind)
            builder.store(cut, builder.inttoptr(pointer, kind.as_pointer())).align = bits // 8
            return context.get_dummy_value()

        return types.void(_VIEW, types.int64, source), codegen

    poke.__doc__ = doc
    return _intrinsic(poke)


peek8 = _peek(8, 1, types.int64, "The uint8 there, as an int64.")
peek32 = _peek(32, 4, types.int64, "The uint32 there, as an int64.")
peek64 = _peek(64, 8, types.uint64, "The uint64 there.")
peek_int = _peek(64, 8, types.int64, "The int64 there.")
peek_word = _peek(64, 1, types.uint64, "The eight bytes from the index-th byte on as a uint64, the first the lowest.")
poke8 = _poke(8, types.int64, "Write the lowest 8 bits.")
poke32 = _poke(32, types.int64, "Write the lowest 32 bits.")
poke64 = _poke(64, types.uint64, "Write a uint64.")
poke_int = _poke(64, types.int64, "Write an int64.")


@_intrinsic
def poke_pair(typingctx: Any, place: Any, index: Any, value: Any) -> Any:
    """Write the lower and the upper half of a uint64 as the uint32 at `index` and the next one."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer = _place(context, builder, args[0], args[1], 4, 8)
        builder.store(args[2], builder.inttoptr(pointer, _I64.as_pointer())).align = 4
        return context.get_dummy_value()

    return types.void(_VIEW, types.int64, types.uint64), codegen


@_intrinsic
def prefetch(typingctx: Any, place: Any, index: Any) -> Any:
    """Ask the processor to fetch the uint64 at `index` into its cache."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer = builder.inttoptr(_place(context, builder, args[0], args[1], 8, 8), _I8.as_pointer())
        kind = ir.FunctionType(ir.VoidType(), [_I8.as_pointer(), _I32, _I32, _I32])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")  # type: ignore[no-untyped-call]
        builder.call(function, [pointer, _I32(0), _I32(3), _I32(1)])
        return context.get_dummy_value()

    return types.void(_VIEW, types.int64), codegen


@_intrinsic
def lowest(typingctx: Any, bits: Any) -> Any:
    """The place of the lowest set bit of a uint64; 64 for none."""
    return types.int64(types.uint64), lambda context, builder, signature, args: builder.cttz(args[0], _I1(0))


@_intrinsic
def unused(typingctx: Any, bits: Any) -> Any:
    """How many bits above the highest set one of a uint64; 64 for none."""
    return types.int64(types.uint64), lambda context, builder, signature, args: builder.ctlz(args[0], _I1(0))


def _all(kind: Any, size: int, value: int) -> Any:
    return ir.Constant(ir.VectorType(kind, size), [value] * size)


@_intrinsic
def equal64(typingctx: Any, place: Any, index: Any, byte: Any) -> Any:
    """uint64: which of the 64 bytes from `index` on are `byte`, an integer literal or int64."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        vector = _load(context, builder, args[0], args[1], 1, _BYTES64, 64, 1)
        one = builder.insert_element(ir.Constant(_BYTES64, ir.Undefined), builder.trunc(args[2], _I8), _I32(0))
        zeros = ir.Constant(ir.VectorType(_I32, 64), [0] * 64)
        wanted = builder.shuffle_vector(one, ir.Constant(_BYTES64, ir.Undefined), zeros)
        return builder.bitcast(builder.icmp_unsigned("==", vector, wanted), _I64)

    return types.uint64(_VIEW, types.int64, types.int64), codegen


@_intrinsic
def within64(typingctx: Any, place: Any, index: Any, low: Any, count: Any, fold: Any) -> Any:
    """uint64: which of the 64 bytes from `index` on, with the bits of `fold` set, are one of the `count` values from `low` on."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        vector = _load(context, builder, args[0], args[1], 1, _BYTES64, 64, 1)
        zeros = ir.Constant(ir.VectorType(_I32, 64), [0] * 64)
        empty = ir.Constant(_BYTES64, ir.Undefined)

        def spread(value: Any) -> Any:
            return builder.shuffle_vector(builder.insert_element(empty, builder.trunc(value, _I8), _I32(0)), empty, zeros)

        folded = builder.or_(vector, spread(args[4]))
        return builder.bitcast(builder.icmp_unsigned("<", builder.sub(folded, spread(args[2])), spread(args[3])), _I64)

    return types.uint64(_VIEW, types.int64, types.int64, types.int64, types.int64), codegen


@_intrinsic
def least16(typingctx: Any, place: Any, index: Any) -> Any:
    """The least of the 16 uint32 from `index` on, as an int64."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        vector = _load(context, builder, args[0], args[1], 4, _WORDS16, 64, 4)
        size = 16
        while size > 1:  # halve: the lesser of each two
            size //= 2
            low = ir.Constant(ir.VectorType(_I32, size), [_I32(lane) for lane in range(size)])
            high = ir.Constant(ir.VectorType(_I32, size), [_I32(lane + size) for lane in range(size)])
            nothing = ir.Constant(vector.type, ir.Undefined)
            a, b = builder.shuffle_vector(vector, nothing, low), builder.shuffle_vector(vector, nothing, high)
            vector = builder.select(builder.icmp_unsigned("<", a, b), a, b)
        return builder.zext(builder.extract_element(vector, _I32(0)), _I64)

    return types.int64(_VIEW, types.int64), codegen
