"""Train and trace in 3D.

python train_3D.py --mode train --dataset OP --data data/OP --run runs/op
python train_3D.py --mode test_dis --weights weights/OP.safetensors --images stack.tif --out out/op
python train_3D.py --mode test --weights weights/OP.safetensors --images stack.tif --maps out/op --out out/op
"""

from __future__ import annotations

from configs.config_3d import TRAIN_PRESETS
from configs.options import TraceRun3D, TrainOptions3D
from tools.cli import parse_mode, run
from tools.progress import loading

# torch and what builds on it: 2 s, on a machine that has not read them before 20 s
with loading():
    from models.RPNet_3D import build_rpnet_3d
    from tools.blockwise.run import report_cells, wants_cells
    from tools.Data_Loader_3d import build_stack_batches_3d
    from tools.dataset_3d import augment_3d
    from tools.tracing.report import report
    from tools.tracing.run import map_files, trace_files
    from tools.tracing.tracing_tools_3D import BORDER, build_trace_job_3d
    from tools.training.run import TrainSpec, stored_words, train_command

SPEC = TrainSpec(build=build_rpnet_3d, augment=augment_3d, stacks=build_stack_batches_3d, ndim=3, border=BORDER)
MODES = {"train": TrainOptions3D, "test_dis": TraceRun3D, "test": TraceRun3D}


def main(argv: list[str] | None = None) -> int:
    """Train (``--mode train``), make maps (``--mode test_dis``) or trace (``--mode test``)."""
    presets = {"train": TRAIN_PRESETS}
    mode, options = parse_mode(MODES, argv, description=__doc__, presets=presets, stored=stored_words)
    if mode == "test_dis":
        return report(map_files(build_trace_job_3d(options), options))
    if mode == "test":
        if wants_cells(options, 3):
            return report_cells(options, 3)
        return report(trace_files(build_trace_job_3d(options), options))
    return train_command(options, SPEC)


if __name__ == "__main__":
    run(main)
