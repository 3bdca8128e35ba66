"""From an image's maps to its forest: search, fronts, tracer, clean-up."""
