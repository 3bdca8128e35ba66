"""One dataset of the tables: its images, weights, traces and scores."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from configs.presets import DatasetPreset
from lib.errors import UserError
from lib.swclib.metrics import Row
from models.checkpoint import read_header
from tools.data.folders import Case, find_cases
from tools.tables.bench import Bench
from tools.tables.known import KNOWN, needed_files
from tools.tables.methods import GOLD, Method
from tools.tables.options import TablesOptions, parse_assignments, parse_scales
from tools.tables.scores import gold_tree, score_row, trace_row
from tools.tables.sources import ROOT
from tools.tables.traces import ImageFile, Trace, TraceStore
from tools.tracing.by_dimension import DIMENSIONS

WEIGHTS = ROOT / "weights"
"""Folder of the shipped weight files."""


@dataclass(frozen=True)
class MissingStudy:
    """A dataset without a table, and the reason."""

    dataset: DatasetPreset
    split: str
    reason: str


@dataclass(frozen=True)
class Study:
    """The traces and scores of one dataset.

    Attributes
    ----------
    dataset, split
        Where the images come from.
    cases
        The images to trace.
    available
        Number of images in the split's folder.
    bench
        Runs the methods.
    methods
        The methods that can be run here.
    store
        The traces on disk.
    unavailable
        Methods that were requested and cannot be run here, and why.
    rows
        Scores by method and image.
    traces
        Traces by method and image; the gold tree has none.
    notes
        Errors with single images.
    """

    dataset: DatasetPreset
    split: str
    cases: Sequence[Case]
    available: int
    bench: Bench
    methods: Sequence[Method]
    store: TraceStore
    unavailable: dict[str, str]
    rows: dict[str, dict[str, Row]] = field(default_factory=dict)
    traces: dict[str, dict[str, Trace]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def is_borrowed(self) -> bool:
        """Whether the weights were trained on another dataset."""
        return is_borrowed(self.bench.header.dataset, self.dataset)

    @property
    def weights_label(self) -> str:
        """Training dataset of the weights, for the header of every table."""
        trained_on = self.bench.header.dataset
        return f"another camera: {trained_on} weights" if self.is_borrowed else f"{trained_on} weights"

    @property
    def trained_on(self) -> list[str]:
        """Names of the images that the weights were trained on; only images of a training split can be."""
        if self.split != "training" or self.is_borrowed:
            return []
        return [case.name for case in self.cases if case.name not in self.bench.header.held_out]

    def add(self, case: Case) -> Iterator[str]:
        """Trace and score one image with every method, whose name is given before it runs.

        A method that fails does not stop the others.
        """
        try:
            gold = gold_tree(case, self.dataset)
        except UserError as error:
            self.notes.append(str(error))
            return
        image = ImageFile(case.image, self.bench)
        for method in self.methods:
            yield method.name
            try:
                if method.name == GOLD:
                    row = score_row(gold, gold, is_network=self.dataset.is_network)
                else:
                    trace = self.store.get(method, image)
                    row = trace_row(gold, trace, is_network=self.dataset.is_network)
                    self.traces[method.name][case.name] = trace
            except UserError as error:
                self.notes.append(f"{case.name}, {method.name}: {error}")
            else:
                self.rows[method.name][case.name] = row

    def finished(self) -> Study | MissingStudy:
        """The study, or, if it has no scores at all, the reasons."""
        if any(self.rows.values()):
            return self
        reasons = [*self.notes, *(f"{name}: {reason}" for name, reason in self.unavailable.items())]
        return MissingStudy(self.dataset, self.split, "; ".join(reasons))


AnyStudy = Study | MissingStudy


def is_borrowed(trained_on: str, dataset: DatasetPreset) -> bool:
    """Whether weights trained on one dataset are used for another."""
    return trained_on.lower() != dataset.name.lower()


def open_study(dataset: DatasetPreset, methods: Sequence[Method], options: TablesOptions) -> AnyStudy:
    """Find the images and load the weights of a dataset."""
    try:
        cases, available = find_images(dataset, options)
        bench = make_bench(dataset, options)
    except UserError as error:
        return MissingStudy(dataset, options.split, str(error))
    unavailable = {method.name: method.unavailable for method in methods if method.unavailable}
    runnable = [method for method in methods if method.name not in unavailable]
    store = TraceStore(options.out / "traces" / dataset.name / options.split, bench, retrace=options.retrace)
    # Every method has its place from the start: the order must not depend on which image can be read.
    rows, traces = ({method.name: {} for method in runnable} for _ in range(2))
    return Study(dataset, options.split, cases, available, bench, runnable, store, unavailable, rows, traces)


def find_images(dataset: DatasetPreset, options: TablesOptions) -> tuple[list[Case], int]:
    """The selected images of a dataset, and the number of images in the split's folder.

    Raises
    ------
    UserError
        If the folder is missing or its files do not match, or it has none of ``--images``.
    """
    folder = options.data_root / dataset.name / options.split
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; {needed_files(dataset, options.split)}")
    try:
        cases = find_cases(folder)
    except UserError as error:
        raise UserError(f"{error}; {needed_files(dataset, options.split)}") from None
    selected = [case for case in cases if case.name in options.images] if options.images else cases
    if not selected:
        raise UserError(f"{folder}: has none of --images {' '.join(options.images)}")
    return selected, len(cases)


def make_bench(dataset: DatasetPreset, options: TablesOptions) -> Bench:
    """A bench with the weights for a dataset.

    Raises
    ------
    UserError
        If there are no weights for it, or they cannot be used.
    """
    weights = weights_file(dataset, parse_assignments("weights", options.weights, KNOWN))
    dimension = DIMENSIONS[dataset.ndim]
    fixed = {"swc_shift": None, "swc_units": "voxel"}  # as the gold trees
    shipped = dimension.run(weights, Path(), Path(), **fixed, device=options.device, threads=options.threads)
    if is_borrowed(read_header(weights).dataset, dataset):
        # The shift of those weights fits the gold trees that they were trained on.
        own = {"scale": dataset.borrowed_scale, "swc_origin": dataset.swc_origin}
        shipped = replace(shipped, swc_shift=0.0, **own)
    if scale := parse_scales(options.scale, KNOWN).get(dataset.name):
        shipped = replace(shipped, scale=scale)
    return Bench(dimension.build, shipped)


def weights_file(dataset: DatasetPreset, given: dict[str, str]) -> Path:
    """The weight file for a dataset: the given one, its own, or that of the dataset it borrows from.

    Raises
    ------
    UserError
        If there is none.
    """
    own = WEIGHTS / f"{dataset.name}.safetensors"
    if dataset.name in given:
        return Path(given[dataset.name])
    if own.is_file():
        return own
    borrowed = WEIGHTS / f"{dataset.borrowed_weights}.safetensors"
    if dataset.borrowed_weights and borrowed.is_file():
        return borrowed
    raise UserError(f"no weights/{own.name} yet; train them, or give --weights {dataset.name}=file")
