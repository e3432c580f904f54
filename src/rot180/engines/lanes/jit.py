"""Kernels: Python functions that Numba compiles, once, to C functions of one signature.

    void kernel(float *P, float *G, float *A, float *S, const void *row, int64_t first, int64_t last)

P holds the parameters, G the gradients of one slot, A the activations, S the scratch space of one thread. `row` is one
step of a program: offsets and sizes, in a record laid out as the kernel's row type says. `first` to `last` (not
included) are the units of work to do, channels or rows or whatever the kernel counts: a program that takes 16 images
through the whole network at a time passes all of them, one that goes layer by layer shares them out among threads.

A network is thus a table of (address, row), and nothing is compiled for it. Numba is imported here and in simd.py, and
nowhere else; neither compiles anything when imported.

A compiled kernel is kept in the user's cache folder, in a folder named by everything that it depends on: Numba stamps a
cached function with its own source file only, and would not see that a lane operation has changed.
"""

# ruff: noqa: E402 - Numba is imported after its settings have been made.
# Numba and llvmlite have no types:
# mypy: disable-error-code="attr-defined, import-untyped, misc, no-untyped-call, union-attr"

import atexit
import contextlib
import ctypes
import functools
import hashlib
import inspect
import os
import pickle
import platform
import shutil
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Generic, NamedTuple, TypeAlias, TypeVar, cast, get_type_hints

import llvmlite
import numpy as np
import platformdirs
from llvmlite import binding, ir

from rot180.arrays import Array
from rot180.errors import SettingError
from rot180.notices import notify


class Target(StrEnum):
    """The instruction set that kernels are compiled for."""

    AVX512 = "avx512"
    AVX2 = "avx2"
    OTHER = "other"


def _select_instruction_set() -> None:
    """ROT180_ISA=avx2 compiles for AVX2 where the processor could do more: for tests, and to measure.

    Numba reads its settings when it is imported. The processor's name alone would leave its own features switched on.
    """
    wanted = os.environ.get("ROT180_ISA", "")
    if wanted == "":
        return
    features = binding.get_host_cpu_features()
    if wanted != "avx2" or not (features.get("avx2") and features.get("fma")):
        raise SettingError(f"ROT180_ISA is {wanted!r}: it can only be avx2, on a processor that has it, or unset")
    if "numba" in sys.modules:
        raise SettingError("ROT180_ISA comes too late, Numba has been imported: import rot180's engine before it")
    for feature in features:
        features[feature] &= not feature.startswith(("avx512", "avx10", "amx"))
    os.environ["NUMBA_CPU_NAME"] = "haswell"
    os.environ["NUMBA_CPU_FEATURES"] = features.flatten()


_select_instruction_set()

import numba
from numba import types
from numba.core import cgutils, codegen, compiler
from numba.core.caching import NullCache
from numba.core.ccallback import CFunc
from numba.core.serialize import dumps
from numba.core.typing import signature as typed
from numba.extending import lower_builtin, register_jitable, type_callable

Function = TypeVar("Function", bound=Callable[..., Any])
Row = TypeVar("Row", bound=tuple[Any, ...])
Counters: TypeAlias = Annotated[Array, "int64"]
KernelFunction: TypeAlias = Callable[[Array, Array, Array, Array, Row, int, int], None]

OPTIONS: dict[str, Any] = {"error_model": "numpy"}  # dividing by zero gives inf or 0: no branch for an exception


# --- the instruction set ---------------------------------------------------------------------------------------


@functools.cache
def target() -> Target:
    """What kernels are compiled for: this processor, unless ROT180_ISA or Numba's own settings say otherwise."""
    chosen = numba.config.CPU_FEATURES
    features = (codegen.get_host_cpu_features() if chosen is None else chosen).split(",")
    if "+avx512f" in features:
        return Target.AVX512
    return Target.AVX2 if "+avx2" in features and "+fma" in features else Target.OTHER


REGISTERS = {Target.AVX512: 32, Target.AVX2: 16 // 2, Target.OTHER: 32 // 4}
"""How many vectors of 16 the registers hold: AVX2 needs two for one, NEON four."""

TILES = {
    Target.AVX512: ((6, 4), (8, 3), (4, 5), (8, 2), (4, 6), (14, 1)),
    Target.AVX2: ((6, 1), (5, 1), (4, 1)),
    Target.OTHER: ((6, 1), (5, 1), (4, 1)),
}
"""Tiles (rows, columns) of `outer` that were measured to run at the processor's peak, the best first."""


def tile_fits(rows: int, columns: int) -> bool:
    """Whether `outer` can keep its tile, its columns and one row's number in registers: else each step spills."""
    return rows * columns + columns + 1 <= REGISTERS[target()]


# --- operations: Python functions with an emitter ----------------------------------------------------------------


class Site(NamedTuple):
    """Where an operation is being compiled: what its emitter needs to write LLVM's instructions."""

    context: Any
    builder: Any
    result: Any  # Numba types
    arguments: Sequence[Any]


FLOATS = types.CPointer(types.float32)


def _floats(given: Any) -> Any:
    return given if given == FLOATS or given == types.Array(types.float32, 1, "C") else None


def _counters(given: Any) -> Any:
    return given if given == types.Array(types.int64, 1, "C") else None


def _integer(given: Any) -> Any:
    return types.int64 if isinstance(given, types.Integer) else None


def _number(given: Any) -> Any:
    return types.float32 if isinstance(given, types.Number) else None


PARAMETERS: dict[Any, Callable[[Any], Any]] = {Array: _floats, Counters: _counters, int: _integer, float: _number}
"""For each annotation: from the type of what is given to the type it is converted to, or None where it does not fit."""

RESULTS: dict[Any, Callable[[Sequence[Any]], Any]] = {
    type(None): lambda _: types.void,
    int: lambda _: types.int64,
    float: lambda _: types.float32,
}
"""For each annotation: from the types of the arguments to the type of the result."""


def operation(meaning: Function) -> Callable[[Callable[..., Any]], Function]:
    """Compile calls of the Python function `meaning` to the instructions that the decorated emitter writes.

    The emitter takes a Site and one LLVM value for each argument, arrays as pointers to their first element, and
    returns the LLVM value of the result. The types are read from the annotations of `meaning`, which is returned as it
    is: outside kernels it stays the Python function, its own definition.
    """
    annotations = get_type_hints(meaning, include_extras=True)
    result = RESULTS[annotations.pop("return")]
    parameters = [PARAMETERS[annotation] for annotation in annotations.values()]

    def typer(*given: Any) -> Any:
        wanted = [parameter(argument) for parameter, argument in zip(parameters, given, strict=True)]
        return None if None in wanted else typed(result(wanted), *wanted)

    typer.__signature__ = inspect.signature(meaning)  # Numba counts the arguments by it

    def declare(emit: Callable[..., Any]) -> Function:
        def lower(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            pointers = [
                context.make_array(kind)(context, builder, value).data if isinstance(kind, types.Array) else value
                for kind, value in zip(signature.args, values, strict=True)
            ]
            value = emit(Site(context, builder, signature.return_type, signature.args), *pointers)
            return context.get_dummy_value() if value is None else value

        type_callable(meaning)(lambda _: typer)
        lower_builtin(meaning, types.VarArg(types.Any))(lower)
        return meaning

    return declare


# --- what a runner of programs needs -------------------------------------------------------------------------------

_C_KERNEL = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 5, *[ctypes.c_int64] * 2)


def call(address: int, P: Array, G: Array, A: Array, S: Array, row: int, first: int, last: int) -> None:
    """Run the kernel at this address on the row at that address."""
    _C_KERNEL(address)(P.ctypes.data, G.ctypes.data, A.ctypes.data, S.ctypes.data, row, first, last)


@operation(call)
def _call(site: Site, address: Any, P: Any, G: Any, A: Any, S: Any, row: Any, first: Any, last: Any) -> None:
    pointer = ir.IntType(8).as_pointer()
    arguments = [P, G, A, S, site.builder.inttoptr(row, pointer), first, last]
    kind = ir.FunctionType(ir.VoidType(), [argument.type for argument in arguments])
    site.builder.call(site.builder.inttoptr(address, kind.as_pointer()), arguments)


def atomic_add(counters: Counters, index: int, value: int) -> int:
    """counters[index] += value, at once for all threads; the number that stood there before."""
    before = int(counters[index])
    counters[index] += value
    return before


@operation(atomic_add)
def _atomic_add(site: Site, counters: Any, index: Any, value: Any) -> Any:
    return site.builder.atomic_rmw("add", site.builder.gep(counters, [index]), value, "seq_cst")


def atomic_load(counters: Counters, index: int) -> int:
    """counters[index]; what another thread stored before it wrote this number is visible from here on."""
    return int(counters[index])


@operation(atomic_load)
def _atomic_load(site: Site, counters: Any, index: Any) -> Any:
    return site.builder.load_atomic(site.builder.gep(counters, [index]), "acquire", 8)


def pause() -> None:
    """Tell the processor that this thread spins."""


@operation(pause)
def _pause(site: Site) -> None:
    if platform.machine().lower() in ("x86_64", "amd64"):
        kind = ir.FunctionType(ir.VoidType(), [])
        site.builder.call(cgutils.get_or_insert_function(site.builder.module, kind, "llvm.x86.sse2.pause"), [])


def yield_processor() -> None:
    """Let the operating system run another thread here."""
    time.sleep(0)


@operation(yield_processor)
def _yield_processor(site: Site) -> None:
    kind = ir.FunctionType(ir.IntType(32), [])
    site.builder.call(cgutils.get_or_insert_function(site.builder.module, kind, "rot180_yield_processor"), [])


_system_yield = ctypes.windll.kernel32.SwitchToThread if sys.platform == "win32" else ctypes.CDLL(None).sched_yield
binding.add_symbol("rot180_yield_processor", ctypes.cast(_system_yield, ctypes.c_void_p).value)


def helper(function: Function) -> Function:
    """A function for kernels to call, compiled into each of them; from Python it stays callable as it is."""
    return register_jitable(forceinline=True, **OPTIONS)(function)


def entry(function: Function) -> Function:
    """A compiled function that Python calls without holding the interpreter's lock: a runner of programs."""
    compiled: Any = numba.njit(nogil=True, **OPTIONS)(function)
    compiled._cache = _Disk(function, _name(function))
    return cast(Function, compiled)


BARRIER_COUNTERS = 16  # int64 numbers; the two in use lie on cache lines of their own
_WAITING, _PASSED = 0, 8
_SPINS = 1000  # some 50 microseconds; then the processor is offered to others, who may be the ones waited for


@helper
def barrier(counters: Counters, threads: int) -> None:
    """Wait until all threads are here. `counters` start as BARRIER_COUNTERS zeros and serve any number of times."""
    passed = atomic_load(counters, _PASSED)
    if atomic_add(counters, _WAITING, 1) == threads - 1:
        atomic_add(counters, _WAITING, -threads)
        atomic_add(counters, _PASSED, 1)
    else:
        spins = 0
        while atomic_load(counters, _PASSED) == passed:
            spins += 1
            if spins < _SPINS:
                pause()
            else:
                yield_processor()


# --- kernels ---------------------------------------------------------------------------------------------------------

_C_TYPES: dict[Any, np.dtype[Any]] = {int: np.dtype(np.int64), float: np.dtype(np.float32)}
_NUMBA_TYPES = {int: types.int64, float: types.float32}


class Kernel(Generic[Row]):
    """A kernel: the Python function, and the address of what it compiles to.

    `python` runs on NumPy arrays as it stands; `row` is the NumPy dtype of one record; `name` tells the kernels of a
    factory apart by what they closed over: convolution_forward(columns=4, rows=6).
    """

    def __init__(self, python: KernelFunction[Row], row_type: type[Row]) -> None:
        self.python = python
        self.name = _name(python)
        self._row_type = row_type
        self.row = _dtype(row_type)

    def __repr__(self) -> str:
        return f"<kernel {self.name}>"

    @functools.cached_property
    def address(self) -> int:
        """Where the compiled function starts; the first look at it compiles the kernel or reads it from disk."""
        body, unpack = helper(self.python), self._unpack()

        def kernel(P: Any, G: Any, A: Any, S: Any, row: Any, first: Any, last: Any) -> None:
            body(P, G, A, S, unpack(row), first, last)

        # Compiled symbols are named after the function; two of one name in a process could be taken for each other.
        line = self.python.__code__.co_firstlineno
        kernel.__name__ = kernel.__qualname__ = f"{self.python.__module__}:{line} {self.name}"
        parameters = (FLOATS, FLOATS, FLOATS, FLOATS, types.voidptr, types.int64, types.int64)
        compiled = CFunc(kernel, (parameters, types.void), {}, OPTIONS)
        compiled._cache = _Disk(self.python, f"{self.name} {self.row}")
        compiled.compile()
        return compiled.address  # type: ignore[return-value]  # it has one once it is compiled

    def record(self, *rows: Row) -> Array:
        """The rows as the kernel reads them: (len(rows),) of dtype `row`."""
        return np.array(list(rows), self.row)

    def run(self, P: Array, G: Array, A: Array, S: Array, row: Row, first: int = 0, last: int = 1) -> None:
        """One call of the compiled kernel. A table of rows does without the checks made here."""
        for name, array in {"P": P, "G": G, "A": A, "S": S}.items():
            if array.dtype != np.float32 or not array.flags.c_contiguous:
                raise TypeError(f"{name} is {array.dtype}, or has gaps: {self.name} takes contiguous float32 arrays")
        call(self.address, P, G, A, S, self.record(row).ctypes.data, first, last)

    def _unpack(self) -> Callable[[Any], Row]:
        """From record to row type: the fields in registers, where a store through a pointer cannot change them."""
        kind = _numba_type(self._row_type)

        def unpack(record: Any) -> Row:
            raise NotImplementedError("only compiled kernels read records")

        def lower(context: Any, builder: Any, _signature: Any, values: Any) -> Any:
            return _read(context, builder, values[0], kind, self.row, 0)

        type_callable(unpack)(lambda _: lambda record: kind)  # noqa: ARG005
        lower_builtin(unpack, types.voidptr)(lower)
        return unpack


def _fields(kind: Any) -> dict[str, Any]:
    """The fields of a NamedTuple, none of a number."""
    return get_type_hints(kind) if hasattr(kind, "_fields") else {}


def _dtype(kind: Any) -> np.dtype[Any]:
    """The record of a row type; a field may be a NamedTuple in its turn."""
    fields = [(name, _dtype(each)) for name, each in _fields(kind).items()]
    whole: np.dtype[Any] = np.dtype(fields, align=True) if fields else _C_TYPES[kind]
    return whole


def _numba_type(kind: Any) -> Any:
    parts = [_numba_type(each) for each in _fields(kind).values()]
    return types.BaseTuple.from_types(parts, kind) if parts else _NUMBA_TYPES[kind]


def _read(context: Any, builder: Any, record: Any, kind: Any, dtype: np.dtype[Any], offset: int) -> Any:
    """The value of this type that lies in the record at this offset."""
    if not dtype.fields:
        place = builder.gep(record, [ir.Constant(ir.IntType(64), offset)])
        return builder.load(builder.bitcast(place, context.get_value_type(kind).as_pointer()))
    parts = [
        _read(context, builder, record, each, inner, offset + start)
        for each, (inner, start, *_) in zip(kind.types, dtype.fields.values(), strict=True)
    ]
    return context.make_tuple(builder, kind, parts)


def kernel(
    row_type: type[Row],
) -> Callable[[KernelFunction[Row]], Kernel[Row]]:
    """Make a kernel of f(P, G, A, S, row, first, last).

    The row type is a NamedTuple of int (int64), float (float32), and NamedTuples of these.

    A kernel may close over numbers: a factory with parameters `rows, columns` makes one kernel for each tile.
    Scalars follow Numba's rules, not NumPy's: float32 times the literal 0.5 is float64. Lanes times 0.5 stay lanes.
    """
    return lambda python: Kernel(python, row_type)


def _name(function: Callable[..., Any]) -> str:
    """The function's name, with the numbers that it closed over."""
    closed_over = inspect.getclosurevars(function).nonlocals
    if any(not isinstance(value, int | float) for value in closed_over.values()):
        raise TypeError(f"{function.__name__} closes over more than numbers, {closed_over}: use names of the module")
    numbers = ", ".join(f"{name}={value}" for name, value in closed_over.items())
    return f"{function.__name__}({numbers})" if numbers else function.__name__


# --- the compiled kernels on disk ------------------------------------------------------------------------------

_DAYS_KEPT = 30


@functools.cache
def _say_that_compiling_takes_a_while() -> None:
    """Once in a process, when the first kernel is not on disk."""
    notify("compiling kernels for this processor: some seconds, once")


class _Disk(NullCache):
    """One file for each compiled function: a SHA-256 of the rest, then the object code.

    What is missing, cut short or altered reads as absent, and is compiled and written anew. Files appear whole, by
    renaming, and their names hold everything that tells them apart: processes may come and go as they like. (Numba's
    own cache numbers its files in an index; two processes that save at once can give one number to two functions.)
    """

    def __init__(self, function: Callable[..., Any], name: str) -> None:
        self._name = name
        self._source = Path(function.__code__.co_filename)
        self._function = f"{function.__module__}.{function.__qualname__}"

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """The compiled function, or None."""
        target_context.refresh()
        path = self._path(sig, target_context.codegen())
        try:
            content = path.read_bytes() if path else b""
        except OSError:
            content = b""
        digest, code = content[:32], content[32:]
        if hashlib.sha256(code).digest() != digest:
            _say_that_compiling_takes_a_while()
            return None
        return compiler.CompileResult._rebuild(target_context, *pickle.loads(code))  # noqa: S301 - ours, by its digest

    def save_overload(self, sig: Any, data: Any) -> None:
        """Keep a compiled function; where the disk does not allow it, the next process will compile it again."""
        path = self._path(sig, data.codegen)
        if path is None or data.library.has_dynamic_globals:
            return
        code = dumps(data._reduce())
        with contextlib.suppress(OSError), tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
            try:
                file.write(hashlib.sha256(code).digest() + code)
                file.close()
                Path(file.name).replace(path)
            except OSError:
                Path(file.name).unlink(missing_ok=True)

    def _path(self, sig: Any, generator: Any) -> Path | None:
        """Its file; None for a function that was typed in and has no source."""
        try:
            source = hashlib.sha256(self._source.read_bytes()).hexdigest()
        except OSError:
            return None
        key = repr((self._function, self._name, source, str(sig), generator.magic_tuple()))
        return cache_folder() / f"{self._function.rpartition('.')[2]}-{hashlib.sha256(key.encode()).hexdigest()[:24]}"


@functools.cache
def cache_folder() -> Path:
    """Where compiled kernels are kept: in NUMBA_CACHE_DIR or the user's cache folder, else in a temporary one.

    The folder's name is a hash of all that every kernel depends on: the sources of this package and of the modules that
    its kernels take numbers from, and the versions of Numba, LLVM, NumPy and Python. Folders of other versions go once
    they have not been used for a month.
    """
    package = Path(__file__).parent
    versions = (numba.__version__, llvmlite.__version__, np.__version__, sys.version, platform.machine())
    digest = hashlib.sha256(repr(versions).encode())
    outside = (package.parents[1] / name for name in ("chance.py", "data/augmentation.py"))
    for source in [*sorted(package.rglob("*.py")), *outside]:
        digest.update(source.name.encode() + source.read_bytes())
    chosen = os.environ.get("NUMBA_CACHE_DIR")
    base = Path(chosen) / "rot180" if chosen else platformdirs.user_cache_path("rot180", appauthor=False)
    folder = base / "kernels" / digest.hexdigest()[:16]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
        os.utime(folder)
    except OSError as error:
        warnings.warn(
            f"compiled kernels cannot be kept in {folder} ({error.strerror}), so that each start compiles them again: "
            "set NUMBA_CACHE_DIR to a folder that can be written",
            RuntimeWarning,
            stacklevel=2,
        )
        folder = Path(tempfile.mkdtemp(prefix="rot180-kernels-"))
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        return folder
    for other in folder.parent.iterdir():
        with contextlib.suppress(OSError):
            if not other.is_symlink() and time.time() - other.stat().st_mtime > _DAYS_KEPT * 86400:
                shutil.rmtree(other, ignore_errors=True)
    return folder
