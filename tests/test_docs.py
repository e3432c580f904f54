"""The documents stay true: their scripts run, their pages hold what the scripts write, their code works."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
EXPERIMENTS = sorted(path for path in (DOCS / "experiments").glob("*.py") if path.stem != "experiment")
PAGES = [ROOT / "README.md", *sorted(DOCS.glob("*.md"))]


def python(*arguments):
    paths = os.pathsep.join([str(ROOT / "src"), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": paths, "OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment, check=False)


def test_there_are_experiments():
    """So that the tests below can fail."""
    assert len(EXPERIMENTS) >= 6


@pytest.mark.parametrize("script", EXPERIMENTS, ids=lambda path: path.stem)
def test_an_experiment_runs_and_fills_its_place(tmp_path, script):
    name = script.stem
    page = tmp_path / "measured.md"
    page.write_text(f"before\n<!-- table of {name} -->\nold\n<!-- end of {name} -->\nafter\n")
    done = python(script, "--quick", "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    table = done.stdout.strip()
    assert table.startswith("| ")
    assert len({line.count("|") for line in table.splitlines()}) == 1
    assert page.read_text() == f"before\n<!-- table of {name} -->\n{table}\n<!-- end of {name} -->\nafter\n"
    measured = (DOCS / "measured.md").read_text(encoding="utf-8")
    assert f"python docs/experiments/{name}.py" in measured
    assert re.search(f"<!-- table of {name} -->\n\\|.*<!-- end of {name} -->", measured, re.DOTALL)
    header = measured.partition(f"<!-- table of {name} -->\n")[2].partition("\n")[0]
    assert header.count("|") >= table.partition("\n")[0].count("|")  # a quick run may have fewer columns
    figure = f"images/measured/{name}.png"
    assert (tmp_path / figure).exists() == (DOCS / figure).exists() == (figure in measured)


def test_the_filters_figure(tmp_path):
    done = python(DOCS / "filters_figure.py", tmp_path / "filters.png")
    assert done.returncode == 0, done.stderr
    with Image.open(tmp_path / "filters.png") as drawn, Image.open(DOCS / "images" / "filters.png") as kept:
        assert drawn.size == kept.size  # as many kernels


def test_the_explain_figure(tmp_path):
    done = python(DOCS / "explain_figure.py", tmp_path / "explain.png", "--quick")
    assert done.returncode == 0, done.stderr
    with Image.open(tmp_path / "explain.png") as drawn, Image.open(DOCS / "images" / "explain.png") as kept:
        assert drawn.size == kept.size


def test_the_python_of_the_explain_page(capsys):
    from rot180 import Network, models

    network = Network(models.lenet5(), engine="reference")
    image, label = np.random.default_rng(1).integers(0, 255, (1, 28, 28)).astype(np.uint8), 3
    names = {"network": network, "image": image, "label": label}
    for code in re.findall(r"```python\n(.*?)```", (DOCS / "explain.md").read_text(encoding="utf-8"), re.DOTALL):
        exec(code, names)
    out = capsys.readouterr().out
    assert "C1[0, 3, 4] = " in out
    assert "F7[4] = " in out


def test_the_tables_of_the_onnx_page(monkeypatch):
    """Run docs/onnx_tables.py again after a change."""
    monkeypatch.syspath_prepend(str(DOCS))
    import onnx_tables

    page = (DOCS / "onnx.md").read_text(encoding="utf-8")
    assert onnx_tables.filled(page) == page


def test_the_python_of_the_onnx_page(tmp_path, monkeypatch):
    from rot180 import data, engines, network

    monkeypatch.setattr(network, "DEFAULT_ENGINE", "reference")  # nothing is compiled for it
    monkeypatch.setattr(engines, "DEFAULT_ENGINE", "reference")
    monkeypatch.chdir(tmp_path)
    digits = data.mnist().train.take(slice(24))
    names = {"images": digits.images[:3].astype(np.float32), "digits": digits}
    codes = re.findall(r"```python\n(.*?)```", (DOCS / "onnx.md").read_text(encoding="utf-8"), re.DOTALL)
    assert len(codes) == 4
    for code in codes:
        exec(code, names)
    np.testing.assert_allclose(names["answer"][0], names["scores"], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_links_within_the_project_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_every_promise_has_tests_that_carry_its_number():
    page = (DOCS / "reliability.md").read_text(encoding="utf-8")
    promises = re.split(r"^## (\d)\. ", page, flags=re.MULTILINE)[1:]
    assert promises[::2] == list("12345678")
    for number, text in zip(promises[::2], promises[1::2], strict=True):
        files = set(re.findall(r"`(tests/[\w/]+\.py)`", text))
        assert files, f"promise {number} names no test"
        for file in files:
            found = re.findall(r"promises? ([\d, and]+)", (ROOT / file).read_text(encoding="utf-8"), re.IGNORECASE)
            assert any(number in each for each in found), f"{file} does not carry promise {number}"


def test_the_python_of_the_filters_page(capsys):
    (code,) = re.findall(r"```python\n(.*?)```", (DOCS / "filters.md").read_text(encoding="utf-8"), re.DOTALL)
    exec(code, {})
    out = capsys.readouterr().out
    assert "9." in out
    assert "row=1, column=1, strength=1.0" in out
