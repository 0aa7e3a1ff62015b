"""The command line ``teramind``: every verb builds a job specification and runs it."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from typing import NoReturn

import typer

from napari_teramind.cli import (  # noqa: F401  # verbs
    atlas,
    attention,
    brains,
    checkpoints,
    evaluate,
    export,
    imports,
    running,
    simulate,
    study,
    train,
)
from napari_teramind.cli.app import app
from napari_teramind.memory import keep_freed_memory


def run(argv: Sequence[str] | None = None) -> int:
    """Run the command line in this process and return its exit code.

    Parameters
    ----------
    argv
        Arguments without the program's name; default: those of this process.

    Returns
    -------
    int
        0 done, 1 failed, 2 bad input, 130 cancelled.
    """
    try:
        return int(app(argv, prog_name="teramind", standalone_mode=False) or 0)
    except typer.TyperException as error:
        message = error.format_message()
        if message:  # empty after help was shown in place of a verb
            print(message if message.endswith((".", "?")) else f"{message}.", file=sys.stderr)
        return error.exit_code


def main() -> NoReturn:
    """Run ``teramind`` as a program."""
    # Asked to end, a job cleans up as after Ctrl-C; on Windows it simply ends.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    # Beside other busy programs, threads that spin while they wait made training 3 to 8 times
    # slower; must be set before torch is loaded.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    keep_freed_memory()
    try:
        code = run()
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read our output has gone, as in `teramind info brain.zarr | head -1`.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 1
    sys.exit(code)
