"""The whole run: check the options, announce the cost, trace and score every dataset, write the report."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from tqdm import tqdm

from configs.presets import DatasetPreset
from lib.errors import UserError
from lib.files import atomic_write, make_folder
from tools.data.folders import find_cases
from tools.tables.document import Block, as_html, as_markdown
from tools.tables.known import KNOWN
from tools.tables.methods import METHODS
from tools.tables.options import TablesOptions, parse_assignments, parse_scales, select
from tools.tables.pictures import figures
from tools.tables.plan import make_plan
from tools.tables.report import TITLE, as_csv, document
from tools.tables.study import AnyStudy, MissingStudy, Study, open_study

BAR = "{desc} {percentage:3.0f}%|{bar}| [{elapsed}<{remaining}]"


def make_tables(options: TablesOptions) -> list[AnyStudy]:
    """Trace, score, and write ``tables.md``, ``tables.csv`` and ``tables.html``.

    Raises
    ------
    UserError
        If a name is unknown, the data folder is missing, ``--out`` cannot be written, or no table could be made.
    """
    datasets = [KNOWN[name] for name in select("datasets", options.datasets, KNOWN)]
    methods = [METHODS[name] for name in select("methods", options.methods, METHODS)]
    # Mistakes in these are reported before hours of tracing, not when their dataset begins.
    parse_assignments("weights", options.weights, KNOWN)
    parse_scales(options.scale, KNOWN)
    if not options.data_root.is_dir():
        raise UserError(f"--data_root {options.data_root}: no such folder; give the one that holds DRIVE/test")
    check_images(options, datasets)
    make_folder(options.out)
    studies = [open_study(dataset, methods, options) for dataset in datasets]
    fill([study for study in studies if isinstance(study, Study)])
    studies = [study.finished() if isinstance(study, Study) else study for study in studies]
    reasons = [f"{study.dataset.name}: {study.reason}" for study in studies if isinstance(study, MissingStudy)]
    if len(reasons) == len(studies):
        raise UserError(f"no table could be made: {'; '.join(reasons)}")
    write_report(options.out, studies, figures if options.pictures else lambda study: iter(()))
    return studies


def fill(studies: Sequence[Study]) -> None:
    """Announce the cost on stderr, then trace and score all images.

    The bar counts estimated seconds, so that the time it shows as left, from the first method on, allows for slow
    datasets and for traces that are reused. Where stderr is no terminal, each method of each image has a line.
    """
    plan = make_plan(studies)
    for line in plan.report():
        sys.stderr.write(f"plan: {line}\n")
    done = 0.0
    with tqdm(total=plan.seconds, smoothing=0, bar_format=BAR, disable=None) as bar:
        for study in studies:
            for number, case in enumerate(study.cases, 1):
                for method in study.add(case):
                    running = f"{study.dataset.name}, image {number} of {len(study.cases)}, {method}"
                    bar.update(done - bar.n)
                    bar.set_description_str(running)
                    if bar.disable:
                        sys.stderr.write(f"{running}\n")
                    done += plan.parts[study.dataset.name, case.name, method]
        bar.update(done - bar.n)


def check_images(options: TablesOptions, datasets: Sequence[DatasetPreset]) -> None:
    """Refuse names of ``--images`` that no dataset has.

    Raises
    ------
    UserError
        If there is one, and at least one dataset has images to choose from.
    """
    names: set[str] = set()
    for dataset in datasets:
        # A missing dataset is reported later, in its place.
        with suppress(UserError):
            names.update(case.name for case in find_cases(options.data_root / dataset.name / options.split))
    unknown = [name for name in options.images if name not in names]
    if names and unknown:
        found = f"no such image; the {options.split} split has {', '.join(sorted(names))}"
        raise UserError(f"--images {unknown[0]}: {found}")


def write_report(out: Path, studies: Sequence[AnyStudy], pictures: Callable[[Study], Iterator[Block]]) -> None:
    """Write the three files; ``pictures`` draws those of a study.

    Raises
    ------
    UserError
        If a file cannot be written.
    """
    blocks = document(studies, pictures)
    texts = {"md": as_markdown(blocks), "csv": as_csv(studies), "html": as_html(blocks, TITLE)}
    for suffix, text in texts.items():
        with atomic_write(out / f"tables.{suffix}") as temporary:
            temporary.write_text(text, encoding="utf-8")
