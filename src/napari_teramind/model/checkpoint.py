"""Checkpoints: ours and bare safetensors, and the authors' Lightning files.

Every file that this package writes is a safetensors file with the published parameter names, so
that the authors' code can read it too; what they lack (the gene panel, the parametrisation, where
the weights come from) stands in the header's metadata and, readable, in a JSON file beside it.
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as save_tensors
from torch import Tensor

from napari_teramind.errors import UserError
from napari_teramind.model.config import METADATA_KEY, ModelConfig, infer_config
from napari_teramind.model.lightning import read_lightning
from napari_teramind.model.names import is_norm, published_names
from napari_teramind.model.network import TeraMind
from napari_teramind.model.packaged import checkpoint_path


def load_model(
    path: str | os.PathLike[str],
    genes: Sequence[str] | str | os.PathLike[str] | None = None,
    device: str = "cpu",
) -> TeraMind:
    """Load a network.

    Parameters
    ----------
    path
        ``.safetensors`` (ours, or bare with the published names) or a published ``.ckpt``;
        ``"packaged"`` is the network that comes with the package.
    genes
        Gene symbols in the order of the panel, or a file that lists them
        (:func:`read_gene_list`). Needed only where the file carries no panel; the network takes
        the first ones if the list is longer, as the published lists are.
    device
        Where to put the weights, for example ``"cpu"`` or ``"cuda:0"``.

    Returns
    -------
    TeraMind
        In evaluation mode, float32.

    Raises
    ------
    UserError
        If the file is missing, damaged, not a Tera-MIND network, or does not go with ``genes``.
    """
    path = checkpoint_path(Path(path))
    if not path.is_file():
        raise UserError(f"There is no checkpoint at {path}; check the path.")
    tensors, metadata = _read_tensors(path)
    try:
        config, panel = _configure(tensors, metadata)
        if genes is not None:
            panel = _panel(genes, config.genes)
        model = TeraMind(config)
        _load_published(model, tensors)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    model.gene_names = panel
    model.sha256 = _sha256(path)
    return model.to(device).eval()


def save_model(
    model: TeraMind,
    path: str | os.PathLike[str],
    provenance: Mapping[str, Any] | None = None,
    half: bool = False,
) -> Path:
    """Write a network atomically, with a readable ``.json`` beside it.

    Parameters
    ----------
    model
        The network; its panel goes into the file.
    path
        Target, replaced if it exists.
    provenance
        Whatever tells where the weights come from; must be JSON.
    half
        Store float16 instead of float32.

    Returns
    -------
    Path
        The file written.
    """
    path = Path(path)
    state = dict(model.named_parameters())
    tensors = {}
    for ours, theirs in published_names(model).items():
        value = state[ours].detach().to("cpu", torch.float16 if half else torch.float32)
        if is_norm(theirs):
            value = value.view(1, -1, 1, 1)
        tensors[theirs] = value.contiguous()
    header = {
        "config": model.config.to_dict(),
        "genes": model.gene_names,
        "provenance": dict(provenance or {}),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, save_tensors(tensors, {METADATA_KEY: json.dumps(header)}))
    write_atomically(path.with_suffix(".json"), json.dumps(header, indent=2).encode())
    return path


def convert_checkpoint(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    genes: str | os.PathLike[str] | Sequence[str] | None = None,
    overwrite: bool = False,
    provenance: Mapping[str, Any] | None = None,
) -> Path:
    """Turn a published Lightning checkpoint into safetensors and a readable config.

    Parameters
    ----------
    source
        A published ``.ckpt``, or a safetensors file with the published names.
    target
        The ``.safetensors`` file to write; the config goes beside it as ``.json``.
    genes
        The panel, as for :func:`load_model`.
    overwrite
        Replace existing files.
    provenance
        What more there is to say of where the source comes from; must be JSON.

    Raises
    ------
    UserError
        As :func:`load_model`, or if a target exists.
    """
    source, target = Path(source), Path(target)
    if target.suffix != ".safetensors":
        raise UserError(f"The converted checkpoint must end in .safetensors, not {target.name}.")
    for existing in (target, target.with_suffix(".json")):
        if existing.exists() and not overwrite:
            raise UserError(f"{existing} exists already; choose another name or allow overwriting.")
    model = load_model(source, genes)
    origin = {"converted_from": source.name, "sha256": model.sha256, **(provenance or {})}
    return save_model(model, target, origin)


def read_gene_list(path: str | os.PathLike[str]) -> tuple[str, ...]:
    """Read gene symbols from a CSV with a column ``gene``, or a text file with one a line.

    Raises
    ------
    UserError
        If the file is missing, empty, not text, or lists a symbol twice.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise UserError(f"There is no gene list at {path}; check the path.") from None
    except (UnicodeDecodeError, OSError):
        raise UserError(f"{path} is not a readable gene list; give a CSV or text file.") from None
    return parse_gene_list(text, str(path))


def parse_gene_list(text: str, path: str) -> tuple[str, ...]:
    """Read gene symbols from the text of a gene list; ``path`` is where it comes from.

    Raises
    ------
    UserError
        As :func:`read_gene_list`.
    """
    try:
        rows = list(csv.reader(text.splitlines()))
    except csv.Error:
        raise UserError(f"{path} is not a readable gene list; give a CSV or text file.") from None
    rows = [[cell.strip() for cell in row] for row in rows if any(cell.strip() for cell in row)]
    column = 0
    if rows and "gene" in rows[0]:
        column = rows.pop(0).index("gene")
    elif rows and len(rows[0]) > 1:
        raise UserError(f"{path} has several columns but none named 'gene'; name it in line 1.")
    genes = tuple(row[column] for row in rows if len(row) > column and row[column])
    if not genes:
        raise UserError(f"{path} lists no genes; give one symbol a line or a column 'gene'.")
    repeated = sorted({gene for gene in genes if genes.count(gene) > 1})
    if repeated:
        raise UserError(f"{path} lists {repeated[0]} more than once; symbols must be unique.")
    return genes


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file so that it is either the old or the new one, whole, whenever we are killed."""
    partial = path.with_name(path.name + ".partial")
    with partial.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def _panel(genes: Sequence[str] | str | os.PathLike[str], expected: int) -> tuple[str, ...]:
    """Take the network's panel from a list or a file, cut to its number of genes."""
    names = read_gene_list(genes) if isinstance(genes, (str, os.PathLike)) else tuple(genes)
    if len(names) < expected:
        raise UserError(
            f"the gene list has {len(names)} symbols but the network takes {expected}; "
            "use the list that it was trained with."
        )
    return tuple(names[:expected])


def _read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """All tensors of a checkpoint and our metadata, if it has any."""
    if path.suffix != ".safetensors":
        return read_lightning(path), {}
    try:
        with safe_open(path, framework="pt") as file:
            header = (file.metadata() or {}).get(METADATA_KEY, "{}")
            return {key: file.get_tensor(key) for key in file.keys()}, json.loads(header)  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise UserError(
            f"{path} is not a whole safetensors file; copy or download it again."
        ) from error


def _configure(
    tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]
) -> tuple[ModelConfig, tuple[str, ...] | None]:
    """Config and panel: what the weights say, completed by what only the metadata know."""
    inferred = infer_config({name: tuple(value.shape) for name, value in tensors.items()})
    if not metadata:
        return inferred, None
    try:
        config = ModelConfig.from_dict(metadata["config"])
        panel = None if metadata["genes"] is None else tuple(metadata["genes"])
    except (KeyError, TypeError) as error:
        raise UserError(f"its metadata are damaged ({error}); get the file again.") from error
    if panel is not None and len(panel) != config.genes:
        raise UserError(f"its panel lists {len(panel)} genes but the network takes {config.genes}.")
    if inferred.genes != config.genes or inferred.patch != config.patch:
        raise UserError("its metadata describe another network than its weights.")
    return config, panel


def _load_published(model: TeraMind, tensors: Mapping[str, Tensor]) -> None:
    """Copy published tensors into a model, strictly: every name, every shape."""
    names = published_names(model)
    missing = sorted(set(names.values()) - set(tensors))
    surplus = sorted(set(tensors) - set(names.values()))
    if missing or surplus:
        what = f"'{missing[0]}' is missing" if missing else f"'{surplus[0]}' is not expected"
        raise UserError(f"these are not the weights of one Tera-MIND network: {what}.")
    with torch.no_grad():
        for ours, parameter in model.named_parameters():
            value = tensors[names[ours]]
            shape = tuple(parameter.shape)
            if is_norm(names[ours]):
                shape = (1, *shape, 1, 1)
            if tuple(value.shape) != shape:
                raise UserError(
                    f"'{names[ours]}' has shape {tuple(value.shape)}; this network needs {shape}."
                )
            if not value.isfinite().all():
                raise UserError(f"'{names[ours]}' holds values that are not finite.")
            parameter.copy_(value.reshape(parameter.shape))


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
