"""The report of a run, as a document and as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from configs.options import TrainOptions, TrainOptions3D
from configs.presets import DatasetPreset
from lib import VERSION
from lib.swclib.metrics import Row, mean_row
from tools.tables.document import Block, Heading, Table, Text
from tools.tables.known import KNOWN, PUBLISHED
from tools.tables.methods import GOLD, METHODS, NODE_ONLY, SHIPPED
from tools.tables.scores import COMPARED, Numbers, compare
from tools.tables.sources import ROOT, source_hash
from tools.tables.study import AnyStudy, MissingStudy, Study
from tools.tables.traces import TRACE_MODULES

TITLE = "NETracer: tables"
NO_VALUE = "–"

Cell = Callable[[Numbers], str]


def _number(name: str, decimals: int) -> Cell:
    """A cell with one number."""
    return lambda row: NO_VALUE if row.get(name) is None else f"{row[name]:.{decimals}f}"


def _with_share(name: str, decimals: int, share: str) -> Cell:
    """A cell with a number and, in brackets, the share without which it misleads."""

    def cell(row: Numbers) -> str:
        """The text of the cell."""
        if row.get(name) is None:
            return NO_VALUE
        return f"{row[name]:.{decimals}f} ({'?' if row.get(share) is None else format(row[share], '.2f')})"

    return cell


COLUMNS: dict[str, Cell] = {
    "SSD-F1": _number("SSD_F1", 3),
    "L-F1": _number("L_F1", 3),
    "PE paper (matched)": _with_share("PE", 3, "PE_matched_fraction"),
    "PE exp.": _number("PE_experiment", 3),
    "JE paper": _number("JE", 1),
    "JE exp.": _number("JE_experiment", 1),
    "JE closed": _number("JE_closed", 1),
    "ABL (coverage)": _with_share("ABL", 1, "coverage"),
    "path F1 closed": _number("paths_F1_closed", 3),
    "breaks closed": _number("breaks_closed", 1),
    "false merges closed": _number("false_merges_closed", 1),
    "s/image": _number("seconds", 1),
}
"""Column headers and how to format their cells. ABL and coverage share a cell so that nobody reads ABL alone."""
NETWORK_COLUMNS: dict[str, Cell] = {"APLS": _number("APLS", 3), "TOPO": _number("TOPO_F1", 3)}
"""Those of roads, which follow."""


def columns(study: Study) -> dict[str, Cell]:
    """The columns of a study."""
    return COLUMNS | (NETWORK_COLUMNS if study.dataset.is_network else {})


def document(studies: Sequence[AnyStudy], pictures: Callable[[Study], Iterator[Block]]) -> list[Block]:
    """The whole report; ``pictures`` draws those of a study."""
    made = f"Made by reproduce_tables.py of NETracer {VERSION}, code {source_hash(TRACE_MODULES)[:12]}"
    blocks: list[Block] = [Heading(TITLE, 1), Text(f"{made}; docs/tables.md explains the rows.")]
    for study in studies:
        blocks += [Heading(f"{study.dataset.name}, {study.split} images")]
        if isinstance(study, MissingStudy):
            blocks += [Text(f"No table. {study.reason}.")]
        else:
            blocks += [*_study_blocks(study), *pictures(study)]
    return [*blocks, *_legend(studies)]


def _study_blocks(study: Study) -> Iterator[Block]:
    """Data, means, statements and single images of one dataset."""
    yield Text(items=data_used(study))
    yield means_table(study)
    yield Text(items=[*statements(study), *study.notes])
    yield from (image_table(study, method, rows) for method, rows in study.rows.items() if rows)


def data_used(study: Study) -> list[str]:
    """Sentences on the images, the gold trees, the weights and the settings."""
    names = [case.name for case in study.cases]
    official = study.dataset.official.get(study.split)
    of = f"the {official} of the official {study.split} split" if official else f"our own {study.split} split"
    options = study.bench.options
    lines = [
        f"Images: {', '.join(names)}: {len(names)} of {of} ({study.available} are in the folder). "
        f"Published at {study.dataset.source}.",
        f"Gold trees: {_gold_source(study)}; coordinate 0 is the {study.dataset.swc_origin} of the first pixel; "
        "scores are in image pixels.",
        f"Weights: {study.weights_label}, {_shown(study.bench.weights)}, {_training(study)}.",
        f"Traced at scale {options.scale:g} (work pixels per image pixel), SWC origin {options.swc_origin}, shift "
        f"{options.swc_shift:g} px, seed threshold {options.seed_threshold:g}, stop threshold "
        f"{options.stop_threshold:g}.",
    ]
    if seen := study.trained_on:
        lines.append(f"Beware: the weights were trained on {', '.join(seen)}; scores there do not apply to new images.")
    return lines


def _gold_source(study: Study) -> str:
    """Where the gold trees come from."""
    from_masks = [case.name for case in study.cases if case.swc is None]
    if not from_masks:
        return "SWC files"
    return f"skeletons of the masks of {'all' if len(from_masks) == len(study.cases) else ', '.join(from_masks)}"


def _shown(path: Path) -> str:
    """A path, relative to the repository where it lies inside."""
    return str(path.resolve().relative_to(ROOT)) if path.resolve().is_relative_to(ROOT) else str(path)


def _training(study: Study) -> str:
    """Width and training of the weights, and how they compare with the published ones."""
    header = study.bench.header
    parts = [
        f"width {header.width} (the paper's: {_paper_width(study)})",
        f"trained on the training images of {header.dataset}",
    ]
    if header.held_out:
        parts[-1] += f" except {', '.join(header.held_out)}, held out to choose thresholds"
    if states := header.metrics.get("step", 0) * header.training.get("batch_size", 0):
        schedule = _paper_samples(KNOWN.get(header.dataset))
        share = f", {states / schedule:.1%} of the paper's schedule of {grouped(schedule)}" if schedule else ""
        parts.append(f"{grouped(states)} states in the last training run{share}")
    if init := header.training.get("init"):
        parts.append(f"started from {Path(init).name} (earlier runs are not counted)")
    return ", ".join(parts)


def _paper_width(study: Study) -> int:
    """Width of the paper's network (docs/paper.md §2)."""
    return (TrainOptions if study.dataset.ndim == 2 else TrainOptions3D).width


def _paper_samples(dataset: DatasetPreset | None) -> int:
    """Samples of the paper's schedule for a dataset, all epochs together (docs/paper.md §3, §4); 0 if unknown."""
    if dataset is None or dataset.ndim == 3 or not dataset.published:
        return 0
    return TrainOptions.nb_epoch * dataset.train.get("epoch_size", TrainOptions.epoch_size)


def grouped(count: int) -> str:
    """A whole number with spaces between groups of three digits."""
    return f"{count:,}".replace(",", " ")


def means_table(study: Study) -> Table:
    """Means over the images, a row for each method, and the published means."""
    rows = [
        [f"{method}, {len(rows)} image{'' if len(rows) == 1 else 's'}", *_values(study, mean_row(list(rows.values())))]
        for method, rows in study.rows.items()
    ]
    strong = next((number for number, method in enumerate(study.rows) if method == SHIPPED), None)
    rows += [[name, reason, *[""] * (len(columns(study)) - 1)] for name, reason in study.unavailable.items()]
    return _with_published(study, "method", rows, strong)


def image_table(study: Study, method: str, rows: dict[str, Row]) -> Table:
    """The scores of one method, a row for each image, their mean, and the published means."""
    lines = [[name, *_values(study, row)] for name, row in rows.items()]
    lines.append(["mean", *_values(study, mean_row(list(rows.values())))])
    return _with_published(study, method, lines, len(rows), summary=f"{study.dataset.name}, image by image: {method}")


def _with_published(study: Study, first: str, rows: list[list[str]], strong: int | None, *, summary: str = "") -> Table:
    """A table whose header names the weights, and whose last row, set apart, holds the published means."""
    header, reference = [f"{first} ({study.weights_label})", *columns(study)], None
    if published := PUBLISHED.get(study.dataset.published_as):
        official, samples = study.dataset.official.get("test"), _paper_samples(study.dataset)
        network = f"width {_paper_width(study)}" + (f", {grouped(samples)} samples" if samples else "")
        label = f"published ({network}), {f'all {official} ' if official else ''}test images"
        rows, reference = [*rows, [label, *_values(study, published)]], len(rows)
    return Table(header, rows, strong, reference, summary)


def _values(study: Study, row: Numbers) -> list[str]:
    return [cell(row) for cell in columns(study).values()]


def statements(study: Study) -> list[str]:
    """Sentences on the effect of GDS and on times."""
    ours, other = study.rows.get(SHIPPED, {}), study.rows.get(NODE_ONLY, {})
    lines = [compare(ours, other, protocol).sentence() for protocol in COMPARED if ours and other]
    traced = [trace for traces in study.traces.values() for trace in traces.values()]
    if traced:
        seconds = sum(trace.map_seconds for trace in traced) / len(traced)
        reused = sum(trace.reused for trace in traced)
        lines.append(
            f"The network's map took {seconds:.1f} s per image, once for all methods; the column s/image does not "
            f"include it. {reused} of {len(traced)} traces, with their times, are from an earlier run."
        )
    return lines


def _legend(studies: Sequence[AnyStudy]) -> list[Block]:
    """Explanation of the rows and columns."""
    used = {name for study in studies if isinstance(study, Study) for name in study.rows}
    methods = [f"{name}: {method.summary}." for name, method in METHODS.items() if name in used]
    reading = [
        "Published: the paper's full-size networks after its whole schedule, not the weights used here. The line "
        "Weights gives the width and training of these.",
        "PE, JE: protocols paper, experiment and closed (docs/metrics.md); never compare across protocols. The "
        "published values are listed under paper, whose text defines them; as far as known, they were computed as in "
        "experiment.",
        "ABL grows when branches are missed: read it together with the coverage. "
        f"The target is the ABL of the gold tree itself (row {GOLD}), not the largest number.",
        "JE is a count: a trace that finds little has few jumps.",
        "All numbers and their denominators: tables.csv.",
    ]
    return [Heading("How to read it"), Text(items=[*methods, *reading])]


def as_csv(studies: Sequence[AnyStudy]) -> str:
    """All numbers of every image and mean, one per line; a cell without a value is empty."""
    lines = [line for study in studies if isinstance(study, Study) for line in _csv_lines(study)]
    names = list(dict.fromkeys(name for line in lines for name in line))
    # ABL must not be read without coverage.
    names.remove("coverage")
    names.insert(names.index("ABL") + 1, "coverage")
    text = io.StringIO()
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue()


def _csv_lines(study: Study) -> Iterator[dict[str, object]]:
    """The lines of one dataset."""
    common = {"dataset": study.dataset.name, "split": study.split}
    for method, rows in study.rows.items():
        if not rows:
            continue
        for image, row in (*rows.items(), ("mean", mean_row(list(rows.values())))):
            yield {**common, "method": method, "image": image, "weights": study.weights_label, **row}
    if published := PUBLISHED.get(study.dataset.published_as):
        yield {**common, "split": "test", "method": "published", "image": "mean", "weights": "", **published}
