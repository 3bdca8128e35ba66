"""Trees, images and drawing: everything that works without the network."""

import os

VERSION = "0.1.0"
"""Version of NETracer, read by pyproject.toml and recorded in every trace."""

# The threads of GNU OpenMP, which torch uses, poll for a tenth of a second before they sleep. Beside another job that
# needs a core, the polling threads hold up the working one: a retina took 65 s instead of 9. This many polls, about
# 20 µs, cost nothing on an idle machine. Read when torch is loaded, so every entry point imports lib first.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "20000")
