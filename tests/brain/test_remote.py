"""A brain read over HTTP, from a server of this process."""

from __future__ import annotations

import shutil
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from napari_teramind.brain import open_brain
from napari_teramind.brain.result import ResultWriter
from napari_teramind.errors import UserError
from simulations import keep_simulation


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


@pytest.fixture
def served(tiny_brain, tmp_path):
    shutil.copytree(tiny_brain.path, tmp_path / "brain.zarr")
    keep_simulation(
        open_brain(tmp_path / "brain.zarr"),
        "seed 0",
        np.full((2, 2, 64, 64), 7, np.uint8),
        roi=(0, 64, 0, 64),
        slices=(0, 2),
        provenance={"seed": 0},
    )
    handler = partial(_Quiet, directory=str(tmp_path))
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_remote_brain_reads_like_a_local_one(served, tiny_arrays):
    stains, genes, _ = tiny_arrays
    brain = open_brain(f"{served}/brain.zarr")
    assert brain.shape == (4, 256, 384)
    got = brain.read_stains((10, 90, 20, 70), (1, 3))
    assert np.array_equal(got, stains[:, 1:3, 10:90, 20:70])
    assert np.array_equal(brain.read_genes((-1, 17, 0, 24), (0, 4))[:, :, 1:17], genes)
    assert brain.table("gene_totals")["total"].sum() == genes.sum()
    assert set(brain.structure_table["acronym"]) == {"root", "CP", "TH"}
    assert brain.simulations["seed 0"].provenance == {"seed": 0}


def test_what_is_not_there_is_a_sentence(served):
    with pytest.raises(UserError, match="no brain that can be read"):
        open_brain(f"{served}/nothing.zarr")
    with pytest.raises(UserError, match="no brain that can be read"):
        open_brain("http://127.0.0.1:9/brain.zarr")
    with pytest.raises(UserError, match="no brain that can be read"):
        open_brain("nonsense://somewhere/brain.zarr")
    brain = open_brain(f"{served}/brain.zarr")
    with pytest.raises(UserError, match="no table 'cells'"):
        brain.table("cells")


def test_a_remote_brain_is_not_written_to(served):
    brain = open_brain(f"{served}/brain.zarr")
    with pytest.raises(UserError, match="copy the brain to this computer"):
        ResultWriter.create(brain, "a", (0, 64, 0, 64), (0, 1), {})
    assert not Path("http:").exists()
