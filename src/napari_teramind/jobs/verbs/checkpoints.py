"""Networks that are at hand, and those that can be got."""

from __future__ import annotations

import shlex
from pathlib import Path

from napari_teramind.errors import UserError
from napari_teramind.jobs.runner import JobContext
from napari_teramind.jobs.specs import GetCheckpointSpec, ListCheckpointsSpec
from napari_teramind.jobs.verbs.brains import describe_model
from napari_teramind.jobs.verbs.common import Result, read_panel
from napari_teramind.published import (
    Got,
    checkpoint_folder,
    get_networks,
    offers,
    read_record,
)
from napari_teramind.words import listed, size


def list_checkpoints(spec: ListCheckpointsSpec, job: JobContext) -> Result:
    """List the networks that are at hand, or those that were published."""
    folder = checkpoint_folder() if spec.folder is None else spec.folder
    return _list_online(folder, job) if spec.online else _list_here(folder, job)


def _list_here(folder: Path, job: JobContext) -> Result:
    from napari_teramind.model import load_model
    from napari_teramind.model.packaged import PACKAGED, packaged_path

    packaged = packaged_path()
    found = [] if packaged is None else [(PACKAGED, packaged)]
    files = sorted(folder.glob("*.safetensors")) + sorted(folder.glob("*.ckpt"))
    found += [(str(path), path) for path in files]
    networks, summary = [], []
    for done, (name, path) in enumerate(found):
        job.report(f"Reading {name}", done, len(found))
        try:
            described = describe_model(name, load_model(path))
        except UserError as error:  # one that cannot be read must not hide the others
            job.warn(str(error))
            continue
        networks.append({key: described[key] for key in ("path", "config", "genes", "sha256")})
        summary.append(f"{described['summary'][0]} {described['summary'][-1]}")
    return {"checkpoints": networks, "summary": summary or ["There is no checkpoint here."]}


def _list_online(folder: Path, job: JobContext) -> Result:
    job.report("Asking what was published", 0, 0)
    record = read_record()
    online, summary = [], [f"Published as doi:{record.doi}:"]
    for offer in offers(record, folder):
        file, paths = offer.file, [str(network.path) for network in offer.networks]
        online.append(
            {
                "name": file.name,
                "file": file.file,
                "size": file.size,
                "md5": file.md5,
                "here": paths,
                "complete": offer.complete,
                "fetched": offer.fetched,
            }
        )
        where = f": {', '.join(paths)}" if paths else ""
        summary.append(f"{file.name}  {size(file.size)}  {offer.words}{where}")
    return {"doi": record.doi, "online": online, "summary": summary}


def get(spec: GetCheckpointSpec, job: JobContext) -> Result:
    """Get published networks: fetch, check, unpack, convert."""
    genes = read_panel(spec.genes)  # before anything is fetched, which may take hours
    folder = checkpoint_folder() if spec.folder is None else spec.folder
    try:
        got = get_networks(
            spec.name,
            folder,
            genes,
            keep=spec.keep,
            overwrite=spec.overwrite,
            report=job.report,
        )
    except KeyboardInterrupt:
        raise KeyboardInterrupt(
            "Getting the networks was cancelled; what has arrived is kept: the same again goes on."
        ) from None
    return _result(got)


def _result(got: Got) -> Result:
    from napari_teramind.model import load_model

    described = [describe_model(str(path), load_model(path)) for path in got.paths]
    words = "are here now" if got.fetched else "were here already"
    summary = [f"The networks of {got.file.name} (doi:{got.doi}) {words}:"]
    summary += [" ".join(found["summary"][:2]) for found in described]
    unnamed = [str(found["path"]) for found in described if found["genes"] is None]
    if unnamed:
        example = shlex.join(["teramind", "simulate", "brain.zarr", "--checkpoint", unnamed[0]])
        summary.append(
            f"{listed([Path(path).stem for path in unnamed])}: the genes are not named; a brain's "
            "are taken in their order if it has as many, else give the list that the network was "
            f"trained with: {example} --genes list.csv"
        )
    if got.kept is not None:
        summary.append(f"The zip file is kept: {got.kept}.")
    keys = ("path", "config", "genes", "sha256")
    return {
        "path": _usual(described),
        "checkpoints": [{key: found[key] for key in keys} for found in described],
        "doi": got.doi,
        "file": got.file.file,
        "md5": got.file.md5,
        "fetched": got.fetched,
        "kept": None if got.kept is None else str(got.kept),
        "summary": summary,
    }


def _usual(described: list[Result]) -> str:
    """Return the network of the published configuration (S = 4, p = 64), or else the first."""

    def unlike(found: Result) -> tuple[bool, bool]:
        return found["config"]["gene_slices"] != 4, found["config"]["patch"] != 64

    return str(min(described, key=unlike)["path"])
