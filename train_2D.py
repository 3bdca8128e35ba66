"""Train and trace in 2D.

python train_2D.py --mode train --dataset DRIVE --data data/DRIVE --run runs/drive
python train_2D.py --mode test --weights weights/DRIVE.safetensors --images photo.png --out out/photo
"""

from __future__ import annotations

from configs.config_2d import TRAIN_PRESETS
from configs.options import TraceRun, TrainOptions
from tools.cli import parse_mode, run
from tools.progress import loading

# torch and what builds on it: 2 s, on a machine that has not read them before 20 s
with loading():
    from models.RPNet_2D import build_rpnet_2d
    from tools.blockwise.run import report_cells, wants_cells
    from tools.Data_Loader_2d import build_stack_batches_2d
    from tools.dataset_2d import augment_2d
    from tools.tracing.report import report
    from tools.tracing.run import trace_files
    from tools.tracing.tracing_tools_2D import BORDER, build_trace_job_2d
    from tools.training.run import TrainSpec, stored_words, train_command

SPEC = TrainSpec(build=build_rpnet_2d, augment=augment_2d, stacks=build_stack_batches_2d, ndim=2, border=BORDER)
MODES = {"train": TrainOptions, "test": TraceRun}


def main(argv: list[str] | None = None) -> int:
    """Train (``--mode train``) or trace (``--mode test``)."""
    presets = {"train": TRAIN_PRESETS}
    mode, options = parse_mode(MODES, argv, description=__doc__, presets=presets, stored=stored_words)
    if mode == "test":
        if wants_cells(options, 2):
            return report_cells(options, 2)
        return report(trace_files(build_trace_job_2d(options), options))
    return train_command(options, SPEC)


if __name__ == "__main__":
    run(main)
