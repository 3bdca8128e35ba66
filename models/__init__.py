"""The networks and their weight files. Nothing here depends on image files or trees."""

import lib  # noqa: F401 - limits the polling of OpenMP's threads, which has to be done before torch is loaded
