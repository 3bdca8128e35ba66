"""Proofreading of traces: a library of operations without a screen, and a window of napari that calls it."""
