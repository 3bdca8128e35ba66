"""Traces on disk: each is made once and reused as long as nothing that it depends on changes."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from lib import VERSION
from lib.errors import UserError
from lib.files import write_json
from lib.klib.image_io import Image
from lib.swclib import is_netracer_swc, write_swc
from tools.tables.bench import Bench
from tools.tables.methods import Method
from tools.tables.sources import LIBRARIES, content_hash, source_hash, version

TRACE_MODULES = ("tools.tracing.job", "tools.tables.traces")
"""A trace depends on the source of these modules and of all that they import."""
OTHER_OPTIONS = ("weights", "images", "out", "threads", "device")
"""Options that do not change a trace, or that its record holds elsewhere."""


@dataclass(frozen=True)
class Trace:
    """A trace on disk.

    Attributes
    ----------
    swc
        The file, in the coordinates of the dataset's gold trees.
    seconds, map_seconds
        See :class:`~tools.tables.bench.TimedForest`; measured when the trace was made.
    reused
        Whether an earlier run made it.
    """

    swc: Path
    seconds: float
    map_seconds: float
    reused: bool


class ImageFile:
    """An image file that is read and hashed when needed, each at most once."""

    def __init__(self, path: Path, bench: Bench) -> None:
        self.path, self._bench = path, bench

    @cached_property
    def content(self) -> Image:
        """The image as the trace job reads it."""
        return self._bench.read(self.path)

    @cached_property
    def hash(self) -> str:
        """SHA-256 of the file."""
        return content_hash(self.path)


class TraceStore:
    """The traces of a dataset's split with one weight file, in ``<folder>/<method>/<image>.swc``.

    Beside each lies its record, ``<image>.json``: the hashes of image, weights, code and SWC, the settings and the
    times.

    Parameters
    ----------
    folder
        Where the traces lie.
    bench
        Makes missing traces.
    retrace
        Reuse no trace.
    """

    def __init__(self, folder: Path, bench: Bench, *, retrace: bool = False) -> None:
        self.folder, self._bench, self._retrace = folder, bench, retrace
        self._common = {
            "weights_sha256": content_hash(bench.weights),
            "code": {"version": VERSION, "sources_sha256": source_hash(TRACE_MODULES, [bench.build.__module__])},
            "libraries": {name: version(name) for name in LIBRARIES},
            "device": bench.device,
        }

    def get(self, method: Method, image: ImageFile) -> Trace:
        """The trace of an image with a method, reused or made.

        Raises
        ------
        UserError
            If the image cannot be read or traced, if the trace cannot be written, or if it would replace an SWC file
            that NETracer did not write.
        """
        return self.reusable(method, image) or self._make(method, image)

    def reusable(self, method: Method, image: ImageFile) -> Trace | None:
        """The trace of an earlier run; None if it is missing, damaged or out of date, or none may be reused."""
        swc = self._swc(method, image)
        # Whatever is wrong with a record, the trace is then made again.
        with suppress(OSError, ValueError, KeyError, TypeError):
            record = {} if self._retrace else json.loads(swc.with_suffix(".json").read_text(encoding="utf-8"))
            if record["made_with"] == self._made_with(method, image) and record["swc_sha256"] == content_hash(swc):
                return Trace(swc, float(record["seconds"]), float(record["map_seconds"]), reused=True)
        return None

    def measured(self, method: Method) -> list[Trace]:
        """Traces of earlier runs with a method, up to date or not, for the times in their records."""
        traces = []
        for record in sorted((self.folder / method.name).glob("*.json")):
            with suppress(OSError, ValueError, KeyError, TypeError):
                times = json.loads(record.read_text(encoding="utf-8"))
                seconds, map_seconds = float(times["seconds"]), float(times["map_seconds"])
                traces.append(Trace(record.with_suffix(".swc"), seconds, map_seconds, reused=True))
        return traces

    def _swc(self, method: Method, image: ImageFile) -> Path:
        return self.folder / method.name / f"{image.path.stem}.swc"

    def _made_with(self, method: Method, image: ImageFile) -> dict[str, Any]:
        """Everything that a trace depends on, in the types that JSON returns."""
        settings = asdict(self._bench.options_of(method))
        settings = {name: value for name, value in settings.items() if name not in OTHER_OPTIONS}
        own = {"parameters": dict(method.parameters), "package": version(method.package) if method.package else None}
        inputs = {**self._common, "image_sha256": image.hash, "method": method.name, "settings": settings, **own}
        return json.loads(json.dumps(inputs, default=str))

    def _make(self, method: Method, image: ImageFile) -> Trace:
        """Trace an image, and write the SWC and its record."""
        swc, made_with = self._swc(method, image), self._made_with(method, image)
        if swc.is_file() and not is_netracer_swc(swc):
            raise UserError(f"{swc}: was not written by NETracer and would be replaced; move it, or give another --out")
        made = self._bench.make(method, image.content)
        origin = made_with["settings"]["swc_origin"]
        comment = [f"{method.name} of {image.path.name} with {self._bench.weights.name}"]
        write_swc(swc, made.forest, comment=[*comment, f"units: image pixels; 0 is the {origin} of the first pixel"])
        times = {"seconds": round(made.seconds, 3), "map_seconds": round(made.map_seconds, 3)}
        record = {**times, "swc_sha256": content_hash(swc), "made_with": made_with}
        write_json(swc.with_suffix(".json"), record)
        return Trace(swc, times["seconds"], times["map_seconds"], reused=False)
