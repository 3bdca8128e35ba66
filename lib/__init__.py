"""Trees, images and drawing: everything that needs no network."""

VERSION = "0.1.0"
"""Of NETracer; pyproject.toml reads it here, and every trace names it."""
