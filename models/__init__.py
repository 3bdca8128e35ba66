"""The networks and their weight files. Nothing here depends on image files or trees."""
