"""The package as a whole: what importing it loads, and what the outside can call."""

from __future__ import annotations

import inspect
import pkgutil
import subprocess
import sys

import pytest

import napari_teramind as tm

GUI_ROOMS = ("napari_teramind.plugin", "napari_teramind.widgets")


def modules_after(code: str) -> set[str]:
    """Top-level modules that a fresh interpreter has loaded after running some code."""
    code += "\nimport sys; print(*{name.partition('.')[0] for name in sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.splitlines()[-1].split())


def headless_modules() -> list[str]:
    found = pkgutil.walk_packages(tm.__path__, "napari_teramind.", onerror=lambda name: None)
    return [
        module.name
        for module in found
        if not module.name.startswith(GUI_ROOMS) and not module.name.endswith("__main__")
    ]


def test_headless_modules_never_load_napari_or_qt() -> None:
    names = headless_modules()
    assert "napari_teramind.brain.store" in names
    loaded = modules_after("\n".join(f"import {name}" for name in names))
    assert "torch" in loaded
    forbidden = {"napari", "qtpy", "PyQt6", "PyQt5", "PySide6", "superqt", "magicgui", "vispy"}
    assert not loaded & forbidden


@pytest.mark.parametrize(
    "code",
    [
        "import napari_teramind",
        "import napari_teramind.cli",
        "from napari_teramind.cli import run; run(['simulate', '--help'])",
    ],
)
def test_importing_and_help_load_nothing_heavy(code: str) -> None:
    heavy = {"torch", "zarr", "pandas", "numpy", "skimage", "scipy", "napari"}
    assert not modules_after(code) & heavy


def test_starting_a_job_loads_no_more_than_its_verb_needs() -> None:
    code = "from napari_teramind.cli import run; run(['info', 'nowhere.zarr'])"
    assert not modules_after(code) & {"torch", "pandas", "skimage"}


def test_panels_open_without_loading_torch() -> None:
    names = ["attention", "atlas", "brain", "jobs", "phantom", "simulate", "train"]
    loaded = modules_after("\n".join(f"import napari_teramind.widgets.{name}" for name in names))
    assert "napari_teramind" in loaded
    assert "torch" not in loaded


@pytest.mark.parametrize("name", ["attention", "load_model", "open_brain", "sample", "simulate"])
def test_public_functions_are_documented_functions(name: str) -> None:
    function = getattr(tm, name)
    assert inspect.isfunction(function)
    assert "Parameters" in (function.__doc__ or "")
    assert name in dir(tm)


def test_simulate_stays_the_function_after_its_module_is_imported() -> None:
    code = (
        "import napari_teramind.simulate, napari_teramind as tm\n"
        "from napari_teramind import simulate\n"
        "assert callable(tm.simulate) and tm.simulate is simulate, tm.simulate\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_unknown_names_are_attribute_errors() -> None:
    with pytest.raises(AttributeError, match="no attribute 'simulat'"):
        _ = tm.simulat  # type: ignore[attr-defined]


def test_version_is_that_of_the_distribution() -> None:
    from importlib.metadata import version

    assert tm.__version__ == version("napari-teramind")
