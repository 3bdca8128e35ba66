"""Images and volumes larger than memory: traced in cells, whose traces are merged."""
