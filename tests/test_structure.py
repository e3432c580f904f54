"""The house rules: imports go one way, importing is quick, asserts are not for users."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent.parent / "src" / "rot180"
FILES = sorted(SOURCE.rglob("*.py"))

ANYWHERE = {"arrays", "errors", "chance", "convolve", "files", "notebook", "notices", "version"}
MAY_IMPORT = {  # a room, and the rooms below it; what a room imports of itself is its own affair
    **dict.fromkeys((*ANYWHERE, "optimizers", "layers", "data", "image_filters", "viola_jones"), ANYWHERE),
    "graph": {"layers"},
    "parameters": {"graph", "layers"},
    "summary": {"graph", "layers"},
    "models": {"graph", "layers", "parameters"},
    "arithmetic": {"graph", "layers"},
    "interchange": {"graph", "layers", "parameters"},
    "engines": {"graph", "layers", "parameters", "optimizers", "data"},
    "network": {"engines", "graph", "layers", "parameters", "data", "interchange", "summary", "arithmetic"},
    "transfer": {"network", "engines", "graph", "layers", "parameters", "data"},
    "onnx": {"network", "interchange", "engines", "graph", "layers", "parameters"},
    "gradient_check": {"network", "engines", "graph", "layers", "parameters"},
    "training": {
        "transfer",
        "network",
        "engines",
        "optimizers",
        "graph",
        "layers",
        "parameters",
        "data",
        "models",
        "summary",
    },
    "plots": {"training", "network"},
    "explain": {
        "plots",
        "training",
        "network",
        "engines",
        "graph",
        "layers",
        "parameters",
        "data",
        "summary",
        "arithmetic",
    },
    "distributed": {"training", "network", "engines", "graph", "layers", "parameters", "data"},
}
TOP = {"bench", "torch_twin", "sklearn", "cli", "studio", "__init__", "__main__"}  # may see everything


def room(path):
    """The first part of the path inside the package: layers/dense.py -> layers, graph.py -> graph."""
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def imported(path):
    """The full names of the modules that a file imports, wherever in it, with the names taken from them."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: a relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def rooms_imported(path):
    return {name.split(".")[1] for name in imported(path) if name.startswith("rot180.")} - {room(path)}


def test_the_walk_sees_imports():
    """So that the tests below can fail."""
    assert rooms_imported(SOURCE / "graph.py") == {"layers", "arrays", "errors", "notebook"}
    assert "engines" in rooms_imported(SOURCE / "network.py")
    assert room(SOURCE / "layers" / "dense.py") == "layers"
    assert len(FILES) > 30


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_imports_go_one_way(path):
    """layers <- graph <- engines <- training <- cli; models and interchange see only graph, layers, parameters."""
    if room(path) in TOP:
        return
    assert room(path) in MAY_IMPORT, f"{room(path)} is a new room: give it its place in MAY_IMPORT"
    assert rooms_imported(path) <= MAY_IMPORT[room(path)] | ANYWHERE


def test_nothing_imports_the_top():
    for path in FILES:
        if room(path) not in TOP:
            assert not rooms_imported(path) & TOP


def test_the_table_has_no_circle():
    for name, below in MAY_IMPORT.items():
        assert all(name not in MAY_IMPORT[each] for each in below - {name}) or name in ANYWHERE


def test_numba_is_imported_in_two_files_only():
    allowed = {SOURCE / "engines" / "lanes" / name for name in ("jit.py", "simd.py")}
    users = {path for path in FILES if any(name.split(".")[0] in ("numba", "llvmlite") for name in imported(path))}
    assert users <= allowed


def test_scikit_learn_is_imported_in_one_file_only():
    users = {path for path in FILES if any(name.split(".")[0] == "sklearn" for name in imported(path))}
    assert users == {SOURCE / "sklearn.py"}


def test_asserts_carry_their_excuse():
    """An assert is never for users: where one stands, `# noqa: S101 - why` stands beside it."""
    for path in FILES:
        text = path.read_text(encoding="utf-8")
        lines = text.splitlines()
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Assert):
                assert "# noqa: S101 - " in lines[node.lineno - 1], f"{path}:{node.lineno}: assert without a reason"


def test_no_pickle_for_files_from_anywhere():
    """The one exception reads back what the compiler wrote to its own cache, machine code in any case."""
    banned, compiler_cache = {"pickle", "shelve", "marshal", "dill", "joblib"}, SOURCE / "engines" / "lanes" / "jit.py"
    for path in FILES:
        assert path == compiler_cache or not {name.split(".")[0] for name in imported(path)} & banned, path


# --- import rot180 -----------------------------------------------------------------------------------------------


def python(code):
    """What a fresh interpreter prints."""
    path = os.pathsep.join([str(SOURCE.parent), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={**os.environ, "PYTHONPATH": path}
    )
    return done.stdout


def test_import_brings_in_nothing_heavy():
    heavy = {"numba", "llvmlite", "torch", "PIL", "starlette", "uvicorn", "onnx", "matplotlib", "mpi4py", "rich"}
    heavy |= {"sklearn", "scipy", "tensorboardX", "jinja2"}
    loaded = python("import sys, rot180; print(*sys.modules)").split()
    assert "rot180.network" in loaded
    assert not heavy & {name.split(".")[0] for name in loaded}


def test_import_takes_less_than_a_fifth_of_a_second():
    """NumPy's own time apart, or on a slow or busy machine two and a half times that; the best of five tries."""
    code = """if True:
        import time
        start = time.perf_counter()
        import numpy
        between = time.perf_counter()
        import rot180
        print(between - start, time.perf_counter() - between)
    """
    numpy, own = (min(times) for times in zip(*(map(float, python(code).split()) for _ in range(5)), strict=True))
    assert own < max(0.2, 2.5 * numpy)
