"""Trees, images and drawing: everything that needs no network."""
