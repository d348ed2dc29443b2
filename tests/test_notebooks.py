"""The notebooks run from top to bottom on the samples."""

from __future__ import annotations

import os
import shutil

import nbformat
import pytest
from conftest import ROOT
from nbclient import NotebookClient

from pipelines.cli import main

NOTEBOOKS = sorted(ROOT.glob("notebooks/*.ipynb"))


@pytest.fixture(scope="module")
def finished(samples_run, tmp_path_factory):
    """A run with a tokenizer and shards."""
    output = tmp_path_factory.mktemp("notebooks") / "out"
    shutil.copytree(samples_run, output, ignore=shutil.ignore_patterns("work"))
    assert main(["tokenizer", "train", str(output), "--vocab-size", "900"]) == 0
    assert main(["pack", str(output), "--sequence-length", "512"]) == 0
    return output


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_cell_runs_and_draws(path, finished, tmp_path):
    notebook = nbformat.read(path, as_version=4)
    environment = {
        **os.environ,
        "CIDERMILL_RUN": str(finished),
        "IPYTHONDIR": str(tmp_path / "ipython"),
        "MPLCONFIGDIR": str(tmp_path / "matplotlib"),
    }
    client = NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}})
    client.execute(env=environment)
    pictures = [
        output
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if "image/png" in output.get("data", {})
    ]
    assert len(pictures) >= 5


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_are_committed_without_outputs(path):
    cells = nbformat.read(path, as_version=4).cells
    assert all(not cell.get("outputs") and not cell.get("execution_count") for cell in cells)


def test_there_are_notebooks():
    assert [path.name for path in NOTEBOOKS] == ["01_look_at_a_corpus.ipynb"]
