"""What was found out, as a document and as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Sequence

from lib import VERSION
from lib.swclib.metrics import Row, mean_row
from tools.tables.document import Block, Heading, Table, Text
from tools.tables.known import PUBLISHED
from tools.tables.methods import GOLD, METHODS, NODE_ONLY, SHIPPED
from tools.tables.scores import COMPARED, compared
from tools.tables.sources import ROOT, source_hash
from tools.tables.study import Study
from tools.tables.traces import MAKERS

TITLE = "NETracer: tables"
NOTHING = "–"


def _number(name: str, decimals: int) -> Callable[[Row], str]:
    """A cell that shows one number."""
    return lambda row: NOTHING if row.get(name) is None else f"{row[name]:.{decimals}f}"


def _position(row: Row) -> str:
    """PE, never without the share of nodes that it speaks of."""
    return _with(row, "PE", 3, "PE_matched_fraction")


def _branch_length(row: Row) -> str:
    """ABL, never without coverage."""
    return _with(row, "ABL", 1, "coverage")


def _with(row: Row, name: str, decimals: int, share: str) -> str:
    """A number, and in brackets the share without which it misleads."""
    if row.get(name) is None:
        return NOTHING
    beside = f"{row[share]:.2f}" if row.get(share) is not None else "?"
    return f"{row[name]:.{decimals}f} ({beside})"


COLUMNS: dict[str, Callable[[Row], str]] = {
    "SSD-F1": _number("SSD_F1", 3),
    "L-F1": _number("L_F1", 3),
    "PE paper (matched)": _position,
    "PE exp.": _number("PE_experiment", 3),
    "JE paper": _number("JE", 1),
    "JE exp.": _number("JE_experiment", 1),
    "JE closed": _number("JE_closed", 1),
    "ABL (coverage)": _branch_length,
    "path F1 closed": _number("paths_F1_closed", 3),
    "breaks closed": _number("breaks_closed", 1),
    "false merges closed": _number("false_merges_closed", 1),
    "s/image": _number("seconds", 1),
}
"""Head of a column and what stands in it. ABL and coverage are one cell on purpose."""


def document(studies: Sequence[Study], pictures: Callable[[Study], Iterator[Block]]) -> list[Block]:
    """The whole report; ``pictures`` draws those of a study."""
    made = f"Made by reproduce_tables.py of NETracer {VERSION}, code {source_hash(MAKERS)[:12]}"
    blocks: list[Block] = [Heading(TITLE, 1), Text(f"{made}; docs/tables.md says what each row is.")]
    for study in studies:
        blocks += [Heading(f"{study.dataset.name}, {study.split} images")]
        blocks += _missing(study) if study.missing else [*_study(study), *pictures(study)]
    return [*blocks, *_legend(studies)]


def _missing(study: Study) -> list[Block]:
    return [Text(f"Not made. {study.missing}.")]


def _study(study: Study) -> Iterator[Block]:
    """Data, means, statements and single images of one dataset."""
    yield Text(items=data_used(study))
    yield means_table(study)
    yield Text(items=[*statements(study), *study.notes])
    yield from (image_table(study, method, rows) for method, rows in study.rows.items() if rows)


def data_used(study: Study) -> list[str]:
    """Which images, which weights, which settings."""
    names = [case.name for case in study.cases]
    official = study.dataset.official.get(study.split)
    of = f"the {official} of the official {study.split} split" if official else f"a {study.split} split of our own"
    options, header = study.bench.options, study.bench.header
    from_masks = [case.name for case in study.cases if case.swc is None]
    lines = [
        f"Images: {', '.join(names)}: {len(names)} of {of} ({study.found} are in the folder). "
        f"Published at {study.dataset.source}.",
        f"Gold: {_gold(from_masks, names)}; coordinate 0 is the {study.dataset.swc_origin} of the first pixel; "
        "scores are in image pixels.",
        f"Weights: {study.weights_label}, {_shown(study)}, width {header.width}, {_training(study)}.",
        f"Traced at scale {options.scale:g} (work pixels per image pixel), SWC origin {options.swc_origin}, "
        f"shift {options.swc_shift:g} px, start {options.seed_threshold:g}, go on {options.stop_threshold:g}.",
    ]
    if seen := study.trained_on:
        lines.append(f"Beware: the weights were trained on {', '.join(seen)}; these numbers say nothing of new images.")
    return lines


def _gold(from_masks: Sequence[str], names: Sequence[str]) -> str:
    """Where the gold trees come from."""
    if not from_masks:
        return "SWC files"
    return f"skeletons of the masks of {'all' if len(from_masks) == len(names) else ', '.join(from_masks)}"


def _shown(study: Study) -> str:
    """The weight file, below the repository without the way there."""
    path = study.bench.options.weights.resolve()
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(study.bench.options.weights)


def _training(study: Study) -> str:
    """What the weights were trained on."""
    header = study.bench.header
    held = header.training.get("hold_out", ())
    chosen = f" but {', '.join(held)}, held out for choosing its thresholds" if held else ""
    return f"trained on the training images of {header.dataset}{chosen}"


def means_table(study: Study) -> Table:
    """Means over the images, a row per method, and the paper's."""
    rows = [
        [f"{method}, {_count(len(rows))}", *_values(mean_row(list(rows.values())))]
        for method, rows in study.rows.items()
    ]
    rows += [[name, *_note(reason)] for name, reason in study.left_out.items()]
    if published := PUBLISHED.get(study.dataset.published_as):
        official = study.dataset.official.get("test")
        rows.append([f"published, {f'all {official} ' if official else ''}test images", *_values(published)])
    strong = frozenset(number for number, method in enumerate(study.rows) if method == SHIPPED)
    return Table(_header(study, "method"), rows, strong)


def _count(images: int) -> str:
    return f"{images} image{'' if images == 1 else 's'}"


def _note(text: str) -> list[str]:
    """A row that holds a sentence instead of numbers."""
    return [text, *[""] * (len(COLUMNS) - 1)]


def _header(study: Study, first: str) -> list[str]:
    """Heads of the columns; whose weights is said in every table."""
    return [f"{first} ({study.weights_label})", *COLUMNS]


def _values(row: Row) -> list[str]:
    return [cell(row) for cell in COLUMNS.values()]


def image_table(study: Study, method: str, rows: dict[str, Row]) -> Table:
    """One method, a row per image, their mean, and the paper's mean."""
    lines = [[name, *_values(row)] for name, row in rows.items()]
    lines.append(["mean", *_values(mean_row(list(rows.values())))])
    strong = frozenset({len(rows)})
    if published := PUBLISHED.get(study.dataset.published_as):
        lines.append(["published mean", *_values(published)])
    return Table(_header(study, method), lines, strong, folded=f"{study.dataset.name}, image by image: {method}")


def statements(study: Study) -> list[str]:
    """What the numbers say of GDS and of time."""
    ours, other = study.rows.get(SHIPPED, {}), study.rows.get(NODE_ONLY, {})
    lines = [compared(ours, other, protocol).sentence() for protocol in COMPARED if ours and other]
    traced = [trace for traces in study.traces.values() for trace in traces.values()]
    if traced:
        seconds = sum(trace.map_seconds for trace in traced) / len(traced)
        reused = sum(trace.reused for trace in traced)
        lines.append(
            f"The network's map took {seconds:.1f} s an image, once for all methods; it is not in the column s/image. "
            f"{reused} of {len(traced)} traces are of an earlier run, with their times."
        )
    return lines


def _legend(studies: Sequence[Study]) -> list[Block]:
    """What the rows and columns are."""
    used = {name for study in studies for name in study.rows}
    methods = [f"{name}: {method.what}." for name, method in METHODS.items() if name in used]
    reading = [
        "PE, JE: protocols paper, experiment and closed (docs/metrics.md); never compare across protocols. The "
        "published ones stand under paper, whose text defines them; as far as known they were counted as experiment.",
        "ABL grows when branches are missed: read it with the coverage beside it. "
        f"The mark is the ABL of the gold itself (row {GOLD}), not infinity.",
        "JE is a count: a trace that finds little has few jumps.",
        "All numbers, with every denominator: tables.csv.",
    ]
    return [Heading("How to read it"), Text(items=[*methods, *reading])]


def as_csv(studies: Sequence[Study]) -> str:
    """Every number of every image and mean, a line each; an empty cell where a value does not exist."""
    lines = [line for study in studies if not study.missing for line in _csv_lines(study)]
    names = list(dict.fromkeys(name for line in lines for name in line))
    # Nobody shall take ABL without coverage.
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
