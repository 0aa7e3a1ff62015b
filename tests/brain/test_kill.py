"""Processes that are killed while they write, and memory that must not grow with the input."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pytest

from napari_teramind.brain import BrainWriter, open_brain
from napari_teramind.errors import UserError

from .regions import noise, write_region

WRITE = """
import sys, time
import numpy as np
from napari_teramind.brain import BrainWriter
writer = BrainWriter.create(sys.argv[1], name="b", shape=(40, 512, 512), genes=["Th", "Mog"])
for z in range(40):
    rng = np.random.default_rng(z)
    writer.write_stains(z, 0, 0, rng.integers(0, 256, (2, 512, 512), dtype=np.uint8))
    writer.write_genes(z, 0, 0, rng.poisson(2.0, (2, 32, 32)))
time.sleep(60)
"""


def planes(z: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(z)
    return rng.integers(0, 256, (2, 512, 512), dtype=np.uint8), rng.poisson(2.0, (2, 32, 32))


def test_a_killed_writer_is_recognised_and_resumed(tmp_path):
    path = tmp_path / "b.zarr"
    process = subprocess.Popen([sys.executable, "-c", WRITE, str(path)])
    ledger = path / "ledger.jsonl"
    try:
        deadline = time.monotonic() + 120
        while not ledger.exists() or len(ledger.read_bytes().splitlines()) < 9:
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)
    finally:
        process.kill()
        process.wait()
    with pytest.raises(UserError, match="half made"):
        open_brain(path)
    # Cut the last line short, as a kill in the middle of it does.
    ledger.write_bytes(ledger.read_bytes()[:-4])
    with BrainWriter.resume(path) as writer:
        assert len(writer.written("stains")) >= 4
        for z in range(40):
            stains, genes = planes(z)
            if (z, 0, 0) not in writer.written("stains"):
                writer.write_stains(z, 0, 0, stains)
            if (z, 0, 0) not in writer.written("genes"):
                writer.write_genes(z, 0, 0, genes)
    brain = open_brain(path)
    expected = [planes(z) for z in range(40)]
    stains = np.stack([image for image, _ in expected], axis=1)
    genes = np.stack([counts for _, counts in expected], axis=1)
    assert np.array_equal(brain.read_stains((0, 512, 0, 512), (0, 40)), stains)
    assert np.array_equal(brain.read_genes((0, 32, 0, 32), (0, 40)), genes)
    assert brain.table("gene_totals")["total"].sum() == genes.sum()


IMPORT = """
import resource, sys
from napari_teramind.brain.importers.merscope import import_merscope
report = import_merscope([sys.argv[1]], sys.argv[2])
print(report.transcripts.inside, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="peak memory is read with resource")
def test_memory_does_not_grow_with_the_rows_of_a_table(tmp_path):
    """Six times the rows, the same memory (MiB) but for the noise of allocators."""
    peaks = []
    for i, rows in enumerate((2_000_000, 12_000_000)):
        folder = _large_region(tmp_path / f"region_{i}", rows)
        done = subprocess.run(
            [sys.executable, "-c", IMPORT, str(folder), str(tmp_path / f"{i}.zarr")],
            check=True,
            capture_output=True,
            text=True,
        )
        inside, peak = (int(word) for word in done.stdout.split())
        assert inside == rows
        peaks.append(peak)
    assert peaks[1] < peaks[0] + 100


def _large_region(folder: Path, rows: int) -> Path:
    """Write a table of random transcripts in pieces, for a small mosaic."""
    images = {stain: noise(1, 1024, 1024) for stain in ("DAPI", "PolyT")}
    write_region(folder, pd.DataFrame({"gene": []}), images)
    schema = pa.schema([("global_x", pa.float64()), ("global_y", pa.float64()), ("gene", "str")])
    rng = np.random.default_rng(0)
    with pyarrow.csv.CSVWriter(folder / "detected_transcripts.csv", schema) as writer:
        for _ in range(rows // 100_000):
            x, y = (rng.uniform(0.01, 1023.9, (2, 100_000)) * 0.108).round(4)
            genes = np.char.add("Gene", rng.integers(0, 100, 100_000).astype(str))
            writer.write(pa.table([x + 30, y - 20, genes], schema=schema))
    return folder
