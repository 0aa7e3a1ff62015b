"""Telling of jobs, and ending or resuming one."""

from __future__ import annotations

import shlex
import time
from typing import Any

from napari_teramind.jobs.history import Job, cancel_job, find_job, read_job, read_jobs, resume_job
from napari_teramind.jobs.runner import JobContext
from napari_teramind.jobs.specs import JobsSpec
from napari_teramind.jobs.verbs.common import Result


def jobs(spec: JobsSpec, job: JobContext) -> Result:
    """List jobs, or tell of one; cancel or resume it."""
    if spec.job is None:
        return _list(read_jobs(), spec.top)
    found = find_job(spec.job)
    if spec.action == "cancel":
        job.report(f"Cancelling {found.title}", 0, 0)
        cancel_job(found)
        return {"jobs": [_facts(read_job(found.folder) or found)], "summary": ["Cancelled."]}
    if spec.action == "resume":
        folder = resume_job(found)
        told = f"Goes on in the background: {found.title}. 'teramind jobs' tells how far it is."
        return {"jobs": [_facts(found)], "folder": str(folder), "summary": [told]}
    return {"jobs": [_facts(found)], "summary": _lines(found)}


def state_words(job: Job) -> str:
    """Return the state of a job in a few words: "running, 43 %, about 4 min left"."""
    words: list[str] = [job.state]
    if job.state == "running":
        progress = job.progress
        if progress is not None and progress.total:
            words.append(f"{100 * progress.done // progress.total} %")
        if progress is not None and progress.time_left():
            words.append(progress.time_left())
        if job.elsewhere:
            words.append(f"on {job.host}")
    return ", ".join(words)


def _list(found: list[Job], top: int) -> Result:
    shown = found[:top]
    lines = [f"{job.name}  {_when(job.started)}  {job.title}: {state_words(job)}" for job in shown]
    if len(found) > top:
        lines.append(f"{len(found) - top} earlier ones: --top {len(found)} lists all.")
    lines = lines or ["No jobs yet: those that make something will be listed here."]
    return {"jobs": [_facts(job) for job in shown], "summary": lines}


def _lines(job: Job) -> list[str]:
    lines = [f"{job.title}: {state_words(job)}", f"Started {_when(job.started)} on {job.host}"]
    if job.plan is not None:
        lines.append(f"Plan: {job.plan.text}")
    lines += [f"Warning: {warning}" for warning in job.warnings]
    lines.append(job.message)
    if job.log:
        lines.append(f"Log: {job.log}")
    if job.resumable:
        lines.append(f"To go on with it: teramind jobs {job.name} --resume")
    return [*lines, f"To do it again: {shlex.join(job.command)}"]


def _when(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))


def _facts(job: Job) -> dict[str, Any]:
    progress = job.progress
    return {
        "name": job.name,
        "verb": job.verb,
        "title": job.title,
        "state": job.state,
        "message": job.message,
        "started": job.started,
        "ended": job.ended,
        "host": job.host,
        "pid": job.process.get("pid"),
        "done": progress.done if progress else None,
        "total": progress.total if progress else None,
        "log": job.log,
        "command": job.command,
    }
