"""Trees, images and drawing: everything that works without the network."""

VERSION = "0.1.0"
"""Version of NETracer, read by pyproject.toml and recorded in every trace."""
