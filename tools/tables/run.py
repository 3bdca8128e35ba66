"""The whole run: check what was asked for, study every dataset, write the report."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from configs.presets import DatasetPreset
from lib.errors import UserError
from lib.files import atomic_write, make_folder
from tools.data.folders import find_cases
from tools.tables.document import Block, as_html, as_markdown
from tools.tables.known import KNOWN
from tools.tables.methods import METHODS
from tools.tables.options import TablesOptions, assigned, chosen, scales
from tools.tables.pictures import figures
from tools.tables.report import TITLE, as_csv, document
from tools.tables.study import Study, studied


def make_tables(options: TablesOptions) -> list[Study]:
    """Trace, score, and write ``tables.md``, ``tables.csv`` and ``tables.html``.

    Raises
    ------
    UserError
        If a name is unknown, the folder of the data is missing, ``--out`` cannot be written, or not one table could be
        made.
    """
    datasets = [KNOWN[name] for name in chosen("datasets", options.datasets, KNOWN)]
    methods = [METHODS[name] for name in chosen("methods", options.methods, METHODS)]
    # Slips in these are told before hours of tracing, not at the dataset they are about.
    assigned("weights", options.weights, KNOWN)
    scales(options.scale, KNOWN)
    if not options.data_root.is_dir():
        raise UserError(f"--data_root {options.data_root}: no such folder; give the one that holds DRIVE/test")
    check_images(options, datasets)
    make_folder(options.out)
    studies = [studied(dataset, methods, options) for dataset in datasets]
    if all(study.missing for study in studies):
        reasons = "; ".join(f"{study.dataset.name}: {study.missing}" for study in studies)
        raise UserError(f"no table could be made: {reasons}")
    write_report(options.out, studies, figures if options.pictures else lambda study: iter(()))
    return studies


def check_images(options: TablesOptions, datasets: Sequence[DatasetPreset]) -> None:
    """Refuse names of ``--images`` that no dataset has.

    Raises
    ------
    UserError
        If there is one, and at least one dataset has images to choose from.
    """
    names: set[str] = set()
    for dataset in datasets:
        # A dataset that is not there is reported later, in its place.
        with suppress(UserError):
            names.update(case.name for case in find_cases(options.data_root / dataset.name / options.split))
    unknown = [name for name in options.images if name not in names]
    if names and unknown:
        raise UserError(
            f"--images {unknown[0]}: no such image; the {options.split} split has {', '.join(sorted(names))}"
        )


def write_report(out: Path, studies: Sequence[Study], pictures: Callable[[Study], Iterator[Block]]) -> None:
    """Write the three files."""
    blocks = document(studies, pictures)
    texts = {"md": as_markdown(blocks), "csv": as_csv(studies), "html": as_html(blocks, TITLE)}
    for suffix, text in texts.items():
        with atomic_write(out / f"tables.{suffix}") as temporary:
            temporary.write_text(text, encoding="utf-8")
