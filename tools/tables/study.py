"""One dataset of the tables: which images, which weights, which traces, which scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from tqdm import tqdm

from configs.presets import DatasetPreset
from lib.errors import UserError
from lib.swclib.metrics import Row
from tools.data.folders import Case, find_cases
from tools.tables.bench import Bench
from tools.tables.known import KNOWN, needed_files
from tools.tables.methods import GOLD, Method
from tools.tables.options import TablesOptions, assigned, scales
from tools.tables.scores import gold_of, scored, scored_trace
from tools.tables.sources import ROOT
from tools.tables.traces import Picture, Trace, TraceStore
from tools.tracing.by_dimension import DIMENSIONS

WEIGHTS = ROOT / "weights"
"""Where the shipped weight files lie."""


@dataclass(frozen=True)
class Study:
    """What was found out about one dataset.

    Attributes
    ----------
    dataset, split
        Which images.
    cases
        The images that were looked at.
    found
        Number of images that the split's folder holds.
    bench
        With the weights and all settings; None where nothing could be made.
    rows
        Numbers by method and image.
    traces
        Trees on the disk by method and image; the gold has none.
    left_out
        Methods that were asked for and cannot be run here, and why.
    notes
        What else could not be done.
    missing
        Why there is nothing at all; empty otherwise.
    """

    dataset: DatasetPreset
    split: str
    cases: Sequence[Case] = ()
    found: int = 0
    bench: Bench | None = None
    rows: dict[str, dict[str, Row]] = field(default_factory=dict)
    traces: dict[str, dict[str, Trace]] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    missing: str = ""

    @property
    def is_borrowed(self) -> bool:
        """Whether the weights were trained on another dataset."""
        return self.bench is not None and is_borrowed(self.bench.header.dataset, self.dataset)

    @property
    def weights_label(self) -> str:
        """Whose weights, for the head of every table."""
        whose = self.bench.header.dataset
        return f"another camera: {whose} weights" if self.is_borrowed else f"{whose} weights"

    @property
    def trained_on(self) -> list[str]:
        """Names of the images that the weights were trained on: only those of a training split can be."""
        if self.split != "training" or self.is_borrowed:
            return []
        held = self.bench.header.training.get("hold_out", ())
        return [case.name for case in self.cases if case.name not in held]


def is_borrowed(trained_on: str, dataset: DatasetPreset) -> bool:
    """Whether weights trained on one dataset are used for another."""
    return trained_on.lower() != dataset.name.lower()


def studied(dataset: DatasetPreset, methods: Sequence[Method], options: TablesOptions) -> Study:
    """Trace and score a dataset; what cannot be done is told in the result."""
    try:
        cases, found = find_images(dataset, options)
        bench = make_bench(dataset, options)
    except UserError as error:
        return Study(dataset, options.split, missing=str(error))
    left_out = {method.name: method.unavailable for method in methods if method.unavailable}
    runnable = [method for method in methods if method.name not in left_out]
    # Every method has its place from the start: the order must not depend on which image could be read.
    rows, traces = ({method.name: {} for method in runnable} for _ in range(2))
    study = Study(dataset, options.split, cases, found, bench, rows, traces, left_out)
    store = TraceStore(options.out / "traces" / dataset.name / options.split, bench, retrace=options.retrace)
    for case in tqdm(cases, desc=dataset.name, unit="image", disable=None):
        _add_case(study, case, runnable, store)
    if not any(rows.values()):
        reasons = [*study.notes, *(f"{name}: {reason}" for name, reason in left_out.items())]
        return replace(study, missing="; ".join(reasons))
    return study


def _add_case(study: Study, case: Case, methods: Sequence[Method], store: TraceStore) -> None:
    """Trace and score one image with every method; one that fails does not stop the others."""
    try:
        gold = gold_of(case, study.dataset)
    except UserError as error:
        study.notes.append(str(error))
        return
    picture = Picture(case.image, study.bench)
    for method in methods:
        try:
            if method.name == GOLD:
                row = scored(gold, gold)
            else:
                trace = store.get(method, picture)
                row = scored_trace(gold, trace)
                study.traces[method.name][case.name] = trace
        except UserError as error:
            study.notes.append(f"{case.name}, {method.name}: {error}")
        else:
            study.rows[method.name][case.name] = row


def find_images(dataset: DatasetPreset, options: TablesOptions) -> tuple[list[Case], int]:
    """The images of a dataset that are wanted, and how many the split has here.

    Raises
    ------
    UserError
        If the folder is not there, something in it does not fit, or it has none of ``--images``.
    """
    folder = options.data_root / dataset.name / options.split
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; {needed_files(dataset, options.split)}")
    try:
        cases = find_cases(folder)
    except UserError as error:
        raise UserError(f"{error}; {needed_files(dataset, options.split)}") from None
    wanted = [case for case in cases if case.name in options.images] if options.images else cases
    if not wanted:
        raise UserError(f"{folder}: has none of --images {' '.join(options.images)}")
    return wanted, len(cases)


def make_bench(dataset: DatasetPreset, options: TablesOptions) -> Bench:
    """A bench with the weights for a dataset.

    Raises
    ------
    UserError
        If there are no weights for it, or they cannot be used.
    """
    weights = weights_file(dataset, assigned("weights", options.weights, KNOWN))
    kind = DIMENSIONS[dataset.ndim]
    shipped = kind.run(weights, Path(), Path(), swc_shift=None, device=options.device, threads=options.threads)
    bench = Bench(kind.build, shipped)
    scale = scales(options.scale, KNOWN).get(dataset.name)
    changes = {"scale": scale} if scale else {}
    if is_borrowed(bench.header.dataset, dataset):
        # The shift of those weights belongs to the golds they were trained on.
        own = {"scale": dataset.borrowed_scale, "swc_origin": dataset.swc_origin, "swc_shift": 0.0}
        changes = own | changes
    return Bench(kind.build, replace(shipped, **changes)) if changes else bench


def weights_file(dataset: DatasetPreset, given: dict[str, str]) -> Path:
    """The weight file for a dataset: the one given, its own, or that of the dataset it borrows from.

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
    raise UserError(f"not yet: no weights/{own.name}; train them, or give --weights {dataset.name}=file")
