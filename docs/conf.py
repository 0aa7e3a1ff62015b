"""Configuration of the documentation (Sphinx, MyST Markdown)."""

from importlib.metadata import version as installed_version

project = "napari-teramind"
author = "the napari-teramind developers"
copyright = "2026, the napari-teramind developers"
version = release = installed_version("napari-teramind")

extensions = ["myst_parser", "numpydoc", "sphinx.ext.autodoc", "sphinx.ext.viewcode"]
exclude_patterns = ["_build"]
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
autodoc_typehints = "none"
numpydoc_show_class_members = False
html_theme = "furo"
html_title = "napari-teramind"
