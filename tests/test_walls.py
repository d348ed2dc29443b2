"""The walls of the architecture: who may import whom."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SCORING = ROOT / "filters" / "model_score.py"
PACKAGES = ("filters", "tokenizer", "runtime", "trainer", "pipelines")


def imports(path: Path) -> set[str]:
    """Every module that a file imports, at any depth of its code."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def modules(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


@pytest.mark.parametrize("path", modules("filters"), ids=lambda p: str(p.relative_to(ROOT)))
def test_filters_never_import_beam_or_pipelines(path):
    tops = {name.partition(".")[0] for name in imports(path)}
    closed = {"apache_beam", "pipelines", "tokenizer", "trainer", "runtime"}
    # The one filter that scores with a quantized model. The runtime knows documents as texts only.
    if path == SCORING:
        closed.remove("runtime")
    assert not tops & closed


def test_importing_every_filter_loads_no_beam():
    names = [
        str(p.relative_to(ROOT).with_suffix("")).replace("/", ".").removesuffix(".__init__")
        for p in modules("filters")
    ]
    code = (
        f"import importlib, sys\nfor name in {names!r}: importlib.import_module(name)\n"
        "assert not any(m.startswith('apache_beam') for m in sys.modules)\n"
        "assert 'runtime' not in sys.modules, 'the model is loaded where documents are scored'"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("path", modules("tokenizer"), ids=lambda p: str(p.relative_to(ROOT)))
def test_tokenizer_knows_nothing_of_the_graph(path):
    tops = {name.partition(".")[0] for name in imports(path)}
    assert not tops & {"apache_beam", "pipelines", "filters", "trainer", "runtime"}


@pytest.mark.parametrize("path", modules("trainer"), ids=lambda p: str(p.relative_to(ROOT)))
def test_the_trainer_knows_shards_and_nothing_of_the_graph(path):
    tops = {name.partition(".")[0] for name in imports(path)}
    assert not tops & {"apache_beam", "pipelines", "filters", "runtime"}


@pytest.mark.parametrize("path", modules("runtime"), ids=lambda p: str(p.relative_to(ROOT)))
def test_the_runtime_knows_the_tokenizer_and_numpy(path):
    tops = {name.partition(".")[0] for name in imports(path)}
    assert tops <= {"runtime", "tokenizer", "numpy", *sys.stdlib_module_names}


def test_the_command_line_starts_without_what_only_training_or_the_graph_needs():
    code = """
import sys
from pipelines.cli import parser
for command in ("", "generate", "score", "train", "quantize", "evaluate", "why", "report"):
    parser(command)
assert not {"jax", "matplotlib", "apache_beam"} & set(sys.modules)
parser()
assert not {"jax", "matplotlib"} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_training_and_quantizing_load_no_beam():
    code = """
import sys
import pipelines.quantize_run, pipelines.training_data, pipelines.training_show
import pipelines.tokenizer_file, pipelines.training_recipes
assert "apache_beam" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_readers_never_import_beam():
    for path in modules("pipelines/sources"):
        assert "apache_beam" not in {n.partition(".")[0] for n in imports(path)}, path


def test_there_are_no_circles():
    paths = [p for name in PACKAGES for p in modules(name)]
    names = {
        str(p.relative_to(ROOT).with_suffix("")).replace("/", ".").removesuffix(".__init__"): p
        for p in paths
    }
    graph = {name: imports(path) & set(names) - {name} for name, path in names.items()}
    done: set[str] = set()
    while len(done) < len(graph):
        ready = {
            name
            for name, wanted in graph.items()
            # A package's own __init__ gathers its modules, and they need not count it.
            if name not in done and all(w in done or name.startswith(w + ".") for w in wanted)
        }
        assert ready, f"a circle among {sorted(set(graph) - done)}"
        done |= ready


def test_nothing_uses_what_differs_between_processes():
    """No Python hash() or unseeded chance where it could reach an output."""
    for path in [p for name in PACKAGES for p in modules(name)]:
        tree = ast.parse(path.read_text("utf-8"))
        called = {
            node.func.id
            for node in ast.walk(tree)
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
        }
        assert "hash" not in called, path
        assert "random" not in {n.partition(".")[0] for n in imports(path)}, path
