"""Traces on the disk: made once, and used again as long as everything that makes them is the same."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from lib import VERSION
from lib.devices import choose_device
from lib.errors import UserError
from lib.files import write_json
from lib.klib.image_io import Image
from lib.swclib import is_netracer_swc, write_swc
from tools.tables.bench import Bench
from tools.tables.methods import Method
from tools.tables.sources import LIBRARIES, content_hash, source_hash, version

MAKERS = ("tools.tracing.job", "tools.tables.traces")
"""Modules whose source, with all that they import, makes a trace."""
NOT_SETTINGS = ("weights", "images", "out", "threads", "device")
"""Options that do not change a trace, or stand elsewhere in what it was made with."""


@dataclass(frozen=True)
class Trace:
    """One tree on the disk.

    Attributes
    ----------
    swc
        Where it lies, in the coordinates of the dataset's gold.
    seconds, map_seconds
        See :class:`~tools.tables.bench.Made`; of the run that made it.
    reused
        Whether an earlier run made it.
    """

    swc: Path
    seconds: float
    map_seconds: float
    reused: bool


class Picture:
    """An image file that is read and hashed only when somebody asks."""

    def __init__(self, path: Path, bench: Bench) -> None:
        self.path, self._bench = path, bench

    @cached_property
    def work(self) -> Image:
        """As the trace job reads it."""
        return self._bench.read(self.path)

    @cached_property
    def hash(self) -> str:
        """SHA-256 of the file."""
        return content_hash(self.path)


class TraceStore:
    """Traces of one dataset's split with one weight file, in ``<folder>/<method>/<image>.swc``.

    Beside each lies ``<image>.json``: the hashes of image, weights, code and SWC, the settings and the times.

    Parameters
    ----------
    folder
        Where to keep them.
    bench
        Makes what is not there.
    retrace
        Use none again.
    """

    def __init__(self, folder: Path, bench: Bench, *, retrace: bool = False) -> None:
        self.folder, self._bench, self._retrace = folder, bench, retrace
        device = choose_device(bench.options.device, bench.options.threads)
        self._common = {
            "weights_sha256": content_hash(bench.options.weights),
            "code": {"version": VERSION, "sources_sha256": source_hash(MAKERS, [bench.build.__module__])},
            "libraries": {name: version(name) for name in LIBRARIES},
            "device": device,
        }

    def get(self, method: Method, picture: Picture) -> Trace:
        """The trace of an image with a method, used again or made.

        Raises
        ------
        UserError
            If the image cannot be read or traced, or the trace cannot be written; also where an SWC that is no trace
            would be replaced.
        """
        swc = self.folder / method.name / f"{picture.path.stem}.swc"
        made_with = self._made_with(method, picture)
        known = None if self._retrace else self._known(swc, made_with)
        return known or self._make(swc, method, picture, made_with)

    def _made_with(self, method: Method, picture: Picture) -> dict[str, Any]:
        """All that decides what a trace looks like, as it comes back from JSON."""
        settings = asdict(self._bench.options_of(method))
        settings = {name: value for name, value in settings.items() if name not in NOT_SETTINGS}
        own = {"parameters": dict(method.parameters), "package": version(method.package) if method.package else None}
        decides = {**self._common, "image_sha256": picture.hash, "method": method.name, "settings": settings, **own}
        return json.loads(json.dumps(decides, default=str))

    def _known(self, swc: Path, made_with: dict[str, Any]) -> Trace | None:
        """The trace of an earlier run; None if there is none, it is damaged, or made with something else."""
        # Whatever is wrong with a record, the trace is then made anew.
        with suppress(OSError, ValueError, KeyError, TypeError):
            record = json.loads(swc.with_suffix(".json").read_text(encoding="utf-8"))
            if record["made_with"] == made_with and record["swc_sha256"] == content_hash(swc):
                return Trace(swc, float(record["seconds"]), float(record["map_seconds"]), reused=True)
        return None

    def _make(self, swc: Path, method: Method, picture: Picture, made_with: dict[str, Any]) -> Trace:
        """Trace, and write the SWC and its record."""
        if swc.is_file() and not is_netracer_swc(swc):
            raise UserError(f"{swc}: was not written by NETracer and would be replaced; move it, or give another --out")
        made = self._bench.make(method, picture.work)
        origin = made_with["settings"]["swc_origin"]
        comment = [f"{method.name} of {picture.path.name} with {self._bench.options.weights.name}"]
        write_swc(swc, made.forest, comment=[*comment, f"units: image pixels; 0 is the {origin} of the first pixel"])
        times = {"seconds": round(made.seconds, 3), "map_seconds": round(made.map_seconds, 3)}
        record = {**times, "swc_sha256": content_hash(swc), "made_with": made_with}
        write_json(swc.with_suffix(".json"), record)
        return Trace(swc, times["seconds"], times["map_seconds"], reused=False)
