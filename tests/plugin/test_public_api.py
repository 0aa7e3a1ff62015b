"""Panels and adapters use napari's public names only."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import napari_teramind

PACKAGE = Path(napari_teramind.__file__).parent
FILES = sorted([*(PACKAGE / "plugin").glob("*.py"), *(PACKAGE / "widgets").glob("*.py")])


def private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


@pytest.mark.parametrize("file", FILES, ids=lambda file: f"{file.parent.name}/{file.name}")
def test_no_private_name_of_anything_but_our_own(file: Path):
    found = []
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Attribute) and private(node.attr):
            if not (isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")):
                found.append(f"line {node.lineno}: {ast.unparse(node)}")
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("napari."):
            found += [
                f"line {node.lineno}: {node.module}"
                for part in [*node.module.split("."), *(a.name for a in node.names)]
                if private(part)
            ]
    assert found == []


def test_there_are_files_to_look_at():
    assert len(FILES) > 15
