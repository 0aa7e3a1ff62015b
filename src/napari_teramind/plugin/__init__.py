"""Thin adapters between brain stores and napari: the reader, layers, hover texts."""
