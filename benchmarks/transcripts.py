"""Measure how long the import of transcript tables takes, and whether memory grows with their rows.

Run ``python benchmarks/transcripts.py``: it writes tables of 1, 10 and 30 million rows of 200 genes
on one area, as CSV and as Parquet, imports each with ``teramind import table`` in a process of its
own, and prints seconds and peak memory. Every gene's rows must be in the brain. Results go to
``benchmarks/results/transcripts.json``.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
from measuring.machine import facts

from napari_teramind.brain import open_brain

RESULTS = Path(__file__).parent / "results" / "transcripts.json"
GENES = 200
SIDE_UM = 2000.0
PART = 1_000_000
KINDS = ["csv", "parquet"]
LIMIT_SECONDS, LIMIT_GB = 180.0, 1.0

# A child measures itself: what ``getrusage`` says of children also counts its parent.
CHILD = """
import json, sys, time
from measuring.machine import peak_memory
from napari_teramind.cli import run
start = time.perf_counter()
code = run(sys.argv[1:])
told = {"wall": time.perf_counter() - start, "processor": time.process_time()}
print(json.dumps({**told, "peak": peak_memory()}), file=sys.stderr)
sys.exit(code)
"""


def write_table(path: Path, rows: int) -> np.ndarray:
    """Write a table, CSV or Parquet, part by part; return the rows of every gene."""
    genes = np.array([f"Gene{i:03}" for i in range(GENES)])
    rng = np.random.default_rng(rows)
    share = rng.dirichlet(np.full(GENES, 0.5))
    schema = pa.schema(
        [("cell_id", pa.int64()), ("gene", pa.string()), ("x", pa.float64()), ("y", pa.float64())]
    )
    writer = pa.parquet.ParquetWriter if path.suffix == ".parquet" else pa.csv.CSVWriter
    told = np.zeros(GENES, np.int64)
    with writer(path, schema) as file:
        for first in range(0, rows, PART):
            n = min(PART, rows - first)
            picked = rng.choice(GENES, n, p=share)
            told += np.bincount(picked, minlength=GENES)
            places = rng.uniform(0, SIDE_UM, (2, n)).round(4)
            columns = [np.arange(first, first + n), genes[picked], *places]
            file.write_table(pa.table(dict(zip(schema.names, columns, strict=True)), schema=schema))
    return told


def measure(folder: Path, rows: int, kind: str) -> dict[str, Any]:
    """Write a table, import it in a process of its own, and check what came of it."""
    table, out = folder / f"t.{kind}", folder / "b.zarr"
    told = write_table(table, rows)
    command = [sys.executable, "-c", CHILD, "import", "table", str(table), "-o", str(out)]
    environment = {**os.environ, "TERAMIND_JOBS": str(folder / "jobs")}
    environment["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    start = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    seconds = time.perf_counter() - start
    if done.returncode:
        raise RuntimeError(done.stderr)
    child = json.loads(done.stderr.splitlines()[-1])
    totals = open_brain(out).table("gene_totals").groupby("gene")["total"].sum()
    if totals.astype(int).to_dict() != {f"Gene{i:03}": n for i, n in enumerate(told) if n}:
        raise RuntimeError("the brain does not hold the table's transcripts")
    return {
        "rows": rows,
        "kind": kind,
        "table_mb": round(table.stat().st_size / 1e6, 1),
        "brain_shape": list(open_brain(out).shape),
        "seconds": round(seconds, 1),
        "import_seconds": round(child["wall"], 1),
        "processor_seconds": round(child["processor"], 1),
        "peak_gb": round(child["peak"] / 1e9, 3),
    }


def main() -> None:
    """Measure, print and store."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rows", nargs="+", type=int, default=[10**6, 10**7, 3 * 10**7])
    parser.add_argument(
        "--kinds", nargs="+", choices=["csv", "parquet"], default=["csv", "parquet"]
    )
    parser.add_argument("--folder", type=Path, help="where to put tables and brains for the while")
    options = parser.parse_args()
    runs = []
    for kind in options.kinds:
        for rows in options.rows:
            with tempfile.TemporaryDirectory(dir=options.folder) as folder:
                runs.append(measure(Path(folder), rows, kind))
            print(json.dumps(runs[-1]), flush=True)
    results: dict[str, Any] = {
        "machine": facts(),
        "genes": GENES,
        "side_um": SIDE_UM,
        "limits": {"seconds": LIMIT_SECONDS, "peak_gb": LIMIT_GB},
        "runs": runs,
        "within_limits": all(
            run["seconds"] < LIMIT_SECONDS and run["peak_gb"] < LIMIT_GB for run in runs
        ),
        "peak_of_most_rows_over_fewest": {
            kind: round(own[-1]["peak_gb"] / own[0]["peak_gb"], 3)
            for kind in options.kinds
            if (own := sorted((r for r in runs if r["kind"] == kind), key=lambda r: r["rows"]))
        },
    }
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(results, indent=2) + "\n")
    print(RESULTS)


if __name__ == "__main__":
    main()
