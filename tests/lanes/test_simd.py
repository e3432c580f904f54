"""Every lane operation against its twin, and what jit.py promises: addresses, the cache on disk, AVX2, barriers.

Run as a program, this file saves what its kernels compute: `python test_simd.py out.npy`.
"""

import os
import subprocess
import sys
import threading
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

import rot180
from rot180.engines.lanes import jit, simd, twin
from rot180.engines.lanes.simd import (
    absolute,
    binary_exponent,
    broadcast,
    exp,
    fma,
    horizontal_sum,
    lane_numbers,
    load,
    load_bytes,
    log,
    mantissa,
    maximum,
    minimum,
    nearest_integer,
    outer,
    outer_lanes,
    power_of_two,
    prefetch,
    sigmoid,
    square_root,
    store,
    tanh,
    tile_add,
    tile_add_sums,
    tile_columns,
    tile_load,
    tile_load_bytes,
    tile_maximum,
    tile_minimum,
    tile_rows,
    tile_store,
    tile_sums,
    tile_zeros,
    transpose,
    where,
    zeros,
)

ODD = [0.0, -0.0, 1.0, -1.0, 0.5, 1.5, 2.5, np.inf, -np.inf, np.nan, 1e-45, -1e-38, 3e38, -3e38, 88.8, 1 + 2**-23]


class Two(NamedTuple):
    x: int
    y: int
    scale: float


class Tiles(NamedTuple):
    w: int
    x: int
    row_stride: int
    column_stride: int


@jit.kernel(Two)
def values(P, G, A, S, row, first, last):
    """Whatever makes lanes of nothing, of numbers, or of other lanes."""
    for unit in range(first, last):
        x, y, z, a = load(P, row.x + 16 * unit), load(P, row.y + 16 * unit), load(P, 5), 800 * unit
        prefetch(P, row.x - 10**9)  # also where there is nothing
        store(A, a, zeros())
        store(A, a + 16, broadcast(row.scale))
        store(A, a + 32, lane_numbers())
        store(A, a + 48, load_bytes(P, 3 + 16 * unit))
        store(A, a + 64, x + y)
        store(A, a + 80, x - y)
        store(A, a + 96, x * y)
        store(A, a + 112, x / y)
        store(A, a + 128, -x)
        store(A, a + 144, 1.5 - x * 2 + row.scale)
        store(A, a + 160, fma(x, y, z))
        store(A, a + 176, fma(x, 3.0, 1))
        store(A, a + 192, maximum(x, y))
        store(A, a + 208, minimum(x, y))
        store(A, a + 224, maximum(x, 0.0))
        store(A, a + 240, minimum(0.0, x))
        store(A, a + 256, absolute(x))
        store(A, a + 272, square_root(x))
        store(A, a + 288, nearest_integer(x))
        total = zeros()
        total += x
        total -= y
        total *= z
        total /= 3.0
        store(A, a + 304, total)
        A[a + 320] = horizontal_sum(z)


@jit.kernel(Two)
def masks(P, G, A, S, row, first, last):
    """Comparisons and what is done with them."""
    for unit in range(first, last):
        x, y, a = load(P, row.x + 16 * unit), load(P, row.y + 16 * unit), 256 * unit
        store(A, a, where(x < y, x, y))
        store(A, a + 16, where(x <= y, 1.0, 0.0))
        store(A, a + 32, where(x > y, 1.0, y))
        store(A, a + 48, where(x >= y, x, 0.0))
        store(A, a + 64, where(x == y, 1.0, 0.0))
        store(A, a + 80, where(x != y, 1.0, 0.0))
        store(A, a + 96, where((x > 0.0) & (y > 0.0), 1.0, 0.0))
        store(A, a + 112, where((x > 0.0) | ~(y > 0.0), 1.0, 0.0))
        store(A, a + 128, where(lane_numbers() < row.scale, x, 0.0))


@jit.kernel(Two)
def functions(P, G, A, S, row, first, last):
    """exp, log, tanh, sigmoid, and the parts of floats that they are made of."""
    for unit in range(first, last):
        x, a = load(P, row.x + 16 * unit), 96 * unit
        store(A, a, exp(x))
        store(A, a + 16, log(x))
        store(A, a + 32, tanh(x))
        store(A, a + 48, sigmoid(x))
        positive = maximum(absolute(x), 2.0**-126)
        store(A, a + 64, mantissa(positive))
        store(A, a + 80, power_of_two(minimum(binary_exponent(positive), 127.0)))


def tiles(rows, columns):
    def tile_operations(P, G, A, S, row, first, last):
        for unit in range(first, last):
            w, x, a = row.w + unit, row.x + 16 * unit, 8192 * unit
            tile = tile_zeros(rows, columns)
            for k in range(3):
                tile = outer(tile, P, w + k, row.row_stride, P, x + 16 * k, row.column_stride)
            tile_store(tile, A, a, 16 * columns, 16)
            tile = tile_rows(rows, columns, P, w, 2)
            for k in range(2):
                tile = outer_lanes(tile, P, w + 16 * k, row.row_stride, P, x + 16 * k, row.column_stride)
            tile_store(tile, A, a + 1024, 16 * columns, 16)
            tile = tile_columns(rows, columns, P, x, row.column_stride)
            tile = tile_add(tile, P, w, row.row_stride, row.column_stride)
            tile_store(tile_minimum(tile_maximum(tile, 0.25), 0.5), A, a + 2048, 16, 16 * rows)
            tile = tile_load(rows, columns, P, x, row.row_stride, row.column_stride)
            tile_add_sums(tile, G, 64 * unit, columns, 1)
            tile_store(tile, A, a + 3072, 16 * columns, 16)
            bytes_read = tile_load_bytes(rows, columns, P, x, row.row_stride, 16)
            tile_store(bytes_read, A, a + 4096, 16 * columns, 16)

    return jit.kernel(Tiles)(tile_operations)


@jit.kernel(Tiles)
def columns_of_16(P, G, A, S, row, first, last):
    for unit in range(first, last):
        column = tile_load(16, 1, P, row.x + 16 * unit, row.row_stride, 0)
        tile_store(transpose(column), A, 512 * unit, 16, 0)
        store(A, 512 * unit + 256, tile_sums(column))


TILES = [tiles(1, 1), tiles(6, 1), tiles(2, 3), tiles(6, 4), tiles(7, 4)]  # the last one spills
KERNELS = [values, masks, functions, columns_of_16, *TILES]


def arrays():
    rng = np.random.default_rng(0)
    P = rng.standard_normal(4096).astype(np.float32) * 3
    P[1024:1280] = np.repeat(np.float32(ODD), 16)  # with ODD[i] against ODD[j] for all i and j
    P[2048:2304] = np.tile(np.float32(ODD), 16)
    G = rng.standard_normal(4096).astype(np.float32)
    return P, G, np.full(20 * 8192, 777, np.float32)


def rows(kernel):
    if kernel.row.names[0] == "w":
        return [(Tiles(3, 640, 33, 48), 4), (Tiles(0, 1600, 16, 16), 1)]
    return [(Two(1024, 2048, 5.0), 16), (Two(3, 720, -0.75), 4)]


def results(run):
    """Everything that all kernels compute, run by `run(kernel, P, G, A, row, first, last)`."""
    everything = []
    for kernel in KERNELS:
        for row, units in rows(kernel):
            P, G, A = arrays()
            run(kernel, P, G, A, row, 0, units)
            everything.append((kernel.name, np.concatenate([A, G])))
    return everything


def compiled(kernel, P, G, A, row, first, last):
    kernel.run(P, G, A, A, row, first, last)


def interpreted(kernel, P, G, A, row, first, last):
    with np.errstate(all="ignore"):
        kernel.python(P, G, A, A, row, first, last)


def same_bits(a, b):
    """Equal, with the signs of zeros; every NaN is the same NaN."""
    a, b = (np.where(np.isnan(x), np.float32(np.nan), x).view(np.uint32) for x in (a, b))
    return np.array_equal(a, b)


# --- operations ------------------------------------------------------------------------------------------------


def test_every_operation_compiles_to_what_its_twin_computes():
    for (name, ours), (_, definition) in zip(results(compiled), results(interpreted), strict=True):
        differing = np.flatnonzero(~((ours == definition) | np.isnan(ours) & np.isnan(definition)))
        assert differing.size == 0, (name, differing[:8], ours[differing[:8]], definition[differing[:8]])
        assert same_bits(ours, definition), name


def test_the_kernels_above_use_every_operation():
    used = {name for kernel in KERNELS for name in kernel.python.__code__.co_names}
    names_of_types = {"LANES", "Column", "Lanes", "Mask", "Operand", "Size", "Tile"}
    assert set(simd.__all__) - names_of_types <= used


def test_fma_of_the_twin_rounds_once():
    rng = np.random.default_rng(1)
    x, y, z = rng.standard_normal((3, 4000)).astype(np.float32)
    z[:2000] = -(x * y)[:2000]  # what is left is the rounding error of the product
    x[2000:2100], y[2000:2100], z[2000:2100] = 1 + 2**-12, 1 + 2**-12, 2.0**-60  # halfway but for the last bit
    for a, b, c, value in zip(x, y, z, twin.fma(x, y, z), strict=True):
        exact = Fraction(float(a)) * Fraction(float(b)) + Fraction(float(c))
        error = abs(Fraction(float(value)) - exact)
        for neighbour in (np.nextafter(value, np.float32(-np.inf)), np.nextafter(value, np.float32(np.inf))):
            assert error <= abs(Fraction(float(neighbour)) - exact)


def test_outer_is_the_outer_product():
    P = arrays()[0]
    tile = twin.outer(twin.tile_zeros(6, 4), P, 10, 7, P, 100, 33)
    w, x = P[10 : 10 + 6 * 7 : 7], np.stack([P[100 + 33 * c :][:16] for c in range(4)])
    np.testing.assert_array_equal(tile, np.einsum("r,cn->rcn", w, x))
    tile = twin.outer_lanes(twin.tile_zeros(2, 4), P, 10, 16, P, 100, 33)
    np.testing.assert_array_equal(tile, np.einsum("rn,cn->rcn", P[10:42].reshape(2, 16), x))


def test_transpose_and_sums():
    column = arrays()[0][:256].reshape(16, 1, 16)
    np.testing.assert_array_equal(twin.transpose(column)[:, 0], column[:, 0].T)
    np.testing.assert_array_equal(twin.tile_sums(column), [twin.horizontal_sum(row) for row in column[:, 0]])
    np.testing.assert_allclose(twin.tile_sums(column), column.sum(axis=(1, 2)), rtol=1e-4)


def test_maximum_and_minimum_keep_nan_whichever_side_it_is_on():
    nan, one = np.full(16, np.nan, np.float32), np.ones(16, np.float32)
    for function in (maximum, minimum):
        assert np.isnan(function(nan, one)).all()
        assert np.isnan(function(one, nan)).all()


@pytest.mark.parametrize("index", [-1, 4090])
def test_the_twin_refuses_places_outside_the_array(index):
    P, _, _ = arrays()
    with pytest.raises(IndexError):
        load(P, index)
    with pytest.raises(IndexError):
        store(P, index, zeros())
    with pytest.raises(IndexError):
        tile_load(2, 2, P, index, 0, 0)


@pytest.mark.parametrize(
    ("position", "reference", "low", "high", "ulps"),
    [
        (0, np.exp, -110.0, 95.0, 1.1),
        (1, np.log, 1e-44, 3e38, 1.0),
        (1, np.log, 0.5, 2.0, 1.0),
        (2, np.tanh, -12.0, 12.0, 2.0),
        (3, lambda x: 1 / (1 + np.exp(-x)), -87.0, 40.0, 3.0),
    ],
)
def test_functions_are_accurate(position, reference, low, high, ulps):
    count = 1 << 18
    x = np.geomspace(low, high, count) if low > 0 else np.linspace(low, high, count)
    P, A = x.astype(np.float32), np.zeros(6 * count, np.float32)
    functions.run(P, P, A, A, Two(0, 0, 0.0), 0, count // 16)
    with np.errstate(over="ignore"):
        exact = reference(P.astype(np.float64))
        rounded = exact.astype(np.float32)
    ours = A.reshape(-1, 6, 16)[:, position].ravel()
    finite = np.isfinite(rounded)
    np.testing.assert_array_equal(ours[~finite], rounded[~finite])
    spacing = np.spacing(np.abs(rounded[finite])).astype(np.float64)
    assert np.max(np.abs(ours[finite] - exact[finite]) / spacing) <= ulps


# --- kernels ----------------------------------------------------------------------------------------------------


def test_a_kernel_knows_its_name_and_its_row():
    assert TILES[3].name == "tile_operations(columns=4, rows=6)"
    assert values.row == np.dtype([("x", np.int64), ("y", np.int64), ("scale", np.float32)], align=True)
    record = values.record(Two(1, 2, 0.5))[0]
    assert (record["x"], record["y"], record["scale"]) == (1, 2, np.float32(0.5))


def test_a_kernel_may_close_over_numbers_only():
    names = ["a"]

    def f(P, G, A, S, row, first, last):
        A[0] = len(names)

    with pytest.raises(TypeError, match="closes over more than numbers"):
        jit.kernel(Two)(f)


def test_run_refuses_arrays_that_a_kernel_would_misread():
    P, G, A = arrays()
    with pytest.raises(TypeError, match="P is float64"):
        values.run(P.astype(np.float64), G, A, A, Two(0, 0, 0.0))
    with pytest.raises(TypeError, match="A is float32, or has gaps"):
        values.run(P, G, A[::2], A, Two(0, 0, 0.0))


@jit.entry
def run_table(addresses, records, P, G, A):
    for k in range(addresses.size):
        jit.call(addresses[k], P, G[k * 1024 :], A[k * 65536 :], A, records[k], 0, 4)


def test_a_compiled_runner_calls_kernels_by_address():
    kernels, row = [TILES[2], TILES[1]], Tiles(3, 640, 33, 48)
    P, G, A = arrays()
    expected = []
    for k, kernel in enumerate(kernels):
        kernel.run(P, G[k * 1024 :], A[k * 65536 :], A, row, 0, 4)
    expected = G.copy(), A.copy()
    P, G, A = arrays()
    records = [kernel.record(row) for kernel in kernels]
    addresses = np.array([kernel.address for kernel in kernels])
    run_table(addresses, np.array([record.ctypes.data for record in records]), P, G, A)
    assert same_bits(G, expected[0])
    assert same_bits(A, expected[1])


@jit.entry
def march(counters, progress, thread, threads, steps):
    """How often a thread saw another one out of step."""
    failures = 0
    for step in range(steps):
        progress[8 * thread] = step
        jit.barrier(counters, threads)
        for other in range(threads):
            failures += progress[8 * other] != step
        jit.barrier(counters, threads)
    return failures


@pytest.mark.parametrize("threads", [1, 2, 5])  # 5: more than the processors of a small machine
def test_barrier_keeps_threads_in_step(threads):
    counters, progress = np.zeros(jit.BARRIER_COUNTERS, np.int64), np.zeros(8 * threads, np.int64)
    failures = [None] * threads
    march(np.zeros(jit.BARRIER_COUNTERS, np.int64), np.zeros(8, np.int64), 0, 1, 1)  # compiled before the race starts

    def walk(thread):
        failures[thread] = march(counters, progress, thread, threads, 300)

    workers = [threading.Thread(target=walk, args=(thread,)) for thread in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert failures == [0] * threads


# --- instruction sets and the cache --------------------------------------------------------------------------------


def test_the_measured_tiles_fit_into_registers():
    assert all(jit.tile_fits(rows, columns) for rows, columns in jit.TILES[jit.target()])
    assert not jit.tile_fits(7, 4)


def start(folder, **environment):
    """This file as a program in another process; what it computes goes to folder/out.npy."""
    folder.mkdir(exist_ok=True)
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("NUMBA_", "ROT180_"))}
    clean |= {"PYTHONPATH": str(Path(rot180.__file__).parents[1]), "NUMBA_CACHE_DIR": str(folder)} | environment
    command = [sys.executable, "-W", "error", "-W", "default::RuntimeWarning", __file__, str(folder / "out.npy")]
    return subprocess.Popen(command, env=clean, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def finish(process):
    """(how many functions it had to compile, what it wrote to stderr)."""
    output, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    return int(output), errors


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    """A cache that a first process has filled."""
    folder = tmp_path_factory.mktemp("cache")
    assert finish(start(folder))[0] == FUNCTIONS
    return folder


FUNCTIONS = len(KERNELS) + 1  # and a runner, march


def saved(folder):
    return np.load(folder / "out.npy")


def test_a_second_process_compiles_nothing(filled):
    before = saved(filled)
    assert finish(start(filled))[0] == 0
    assert same_bits(saved(filled), before)


def test_damaged_cache_files_are_compiled_again(filled):
    files = sorted(path for path in filled.rglob("*") if path.is_file() and path.name != "out.npy")
    assert len(files) == FUNCTIONS
    before = saved(filled)
    content = bytearray(files[0].read_bytes())
    content[len(content) // 2] ^= 1
    files[0].write_bytes(content)
    files[1].write_bytes(files[1].read_bytes()[:100])
    files[2].write_bytes(b"")
    assert finish(start(filled))[0] == 3
    assert same_bits(saved(filled), before)
    assert finish(start(filled))[0] == 0


def test_two_processes_may_fill_one_cache(tmp_path):
    both = [start(tmp_path / name, NUMBA_CACHE_DIR=str(tmp_path / "cache")) for name in ("a", "b")]
    for process in both:
        finish(process)
    assert same_bits(saved(tmp_path / "a"), saved(tmp_path / "b"))
    assert finish(start(tmp_path / "a", NUMBA_CACHE_DIR=str(tmp_path / "cache")))[0] == 0


def test_a_home_that_cannot_be_written_costs_time_only(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    (tmp_path / "temporary").mkdir()
    nowhere = str(tmp_path / "file" / "home")
    places = {"HOME": nowhere, "XDG_CACHE_HOME": nowhere, "LOCALAPPDATA": nowhere, "NUMBA_CACHE_DIR": ""}
    count, errors = finish(start(tmp_path / "a", **places, TMPDIR=str(tmp_path / "temporary")))
    assert count == FUNCTIONS
    assert "compiled kernels cannot be kept" in errors
    assert list((tmp_path / "temporary").iterdir()) == []


def test_folders_of_other_versions_go_after_a_month(tmp_path, monkeypatch):
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    old, recent = (tmp_path / "rot180" / "kernels" / name for name in ("old", "recent"))
    old.mkdir(parents=True)
    (old / "kernel").write_text("code")
    recent.mkdir()
    os.utime(old, (0, 0))
    folder = jit.cache_folder.__wrapped__()
    assert sorted(folder.parent.iterdir()) == sorted([folder, recent])


def test_avx2_gives_the_same_bits(filled, tmp_path):
    features = jit.binding.get_host_cpu_features()
    if not (features.get("avx2") and features.get("fma")):
        pytest.skip("this processor has no AVX2")
    finish(start(tmp_path / "avx2", ROT180_ISA="avx2"))
    assert same_bits(saved(tmp_path / "avx2"), saved(filled))


def test_an_unknown_instruction_set_is_refused(tmp_path):
    process = start(tmp_path / "a", ROT180_ISA="mmx")
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "ROT180_ISA is 'mmx': it can only be avx2" in errors


def main(path):
    absent, load_overload = [], jit._Disk.load_overload

    def count(*arguments):
        found = load_overload(*arguments)
        absent.append(found is None)
        return found

    jit._Disk.load_overload = count
    np.save(path, np.concatenate([array for _, array in results(compiled)]))
    assert march(np.zeros(jit.BARRIER_COUNTERS, np.int64), np.zeros(8, np.int64), 0, 1, 9) == 0
    assert (jit.target() is jit.Target.AVX2) >= (os.environ.get("ROT180_ISA") == "avx2")
    print(sum(absent))


if __name__ == "__main__":
    main(sys.argv[1])
