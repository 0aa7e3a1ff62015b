"""The process in which Cellpose runs: ``python -m napari_teramind.evaluate.cellpose_process``.

Standard input: a line of JSON a request. The first is ``{"weights": FILE, "gpu": BOOL}``; each
further one ``{"image": NPY, "labels": NPY, "lowhigh": [LOW, HIGH]}``: nuclei of the image are found
and their labels written. Standard output: a line an answer, ``{}`` when it is done, ``{"error":
REASON}``, or ``{"missing": REASON}`` where Cellpose is not installed. It ends with its input.
"""

from __future__ import annotations

import json
import os
import sys
from typing import IO, Any

import numpy as np


def serve(requests: IO[str], answers: IO[str]) -> None:
    """Answer requests until there are no more."""
    model: Any = None
    for line in requests:
        request = json.loads(line)
        answer: dict[str, str] = {}
        try:
            if model is None:
                model = _model(request)
            else:
                _segment(model, request)
        except ImportError as error:
            answer = {"missing": _reason(error)}
        except Exception as error:  # Cellpose's own failures are of many kinds
            answer = {"error": _reason(error)}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def _model(request: dict[str, Any]) -> Any:
    import torch
    from cellpose import models

    # Looked at first in torch's safe way: a file that holds code is refused before Cellpose.
    torch.load(request["weights"], map_location="cpu", weights_only=True)
    return models.CellposeModel(gpu=request["gpu"], pretrained_model=request["weights"])


def _segment(model: Any, request: dict[str, Any]) -> None:
    image = np.load(request["image"], allow_pickle=False)
    masks = model.eval(image, normalize={"lowhigh": request["lowhigh"]})[0]
    np.save(request["labels"], np.asarray(masks), allow_pickle=False)


def _reason(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}".rstrip(".") if lines else type(error).__name__


if __name__ == "__main__":
    # What libraries print must not mix with the answers.
    told = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    serve(sys.stdin, told)
