"""The 3D datasets. To add a dataset, add a record here."""

from __future__ import annotations

from configs.presets import DatasetPreset

DATASETS = (
    DatasetPreset(
        name="OP",
        ndim=3,
        prepare={
            "spacing": (1.0, 0.33, 0.33),  # µm, z y x
            "step": 8.0,
            "margin": 3,
            # Their gold trees leave out some of the neurons in the image.
            "ignore_unlabelled": ["OP_2", "OP_7", "OP_8"],
        },
        # No source says which volume to hold out.
        train={"hold_out": ["OP_8"]},
        source="the DIADEM challenge (olfactory projection fibers)",
        images="images/OP_1.tif ...",
    ),
    DatasetPreset(
        name="FMOST",
        ndim=3,
        # Neurites end at the faces of a block. Without samples near these ends, traces stop before they reach them.
        prepare={"margin": 1},
        source="the NETracer paper's repository",
        images="images/*.tif",
        published_as="fMOST-VTA",
        published={"SSD_F1": 0.919, "L_F1": 0.913, "PE": 0.693, "JE": 2.3, "ABL": 219.3},
    ),
    DatasetPreset(
        name="CCF",
        ndim=3,
        prepare={"margin": 1},
        published_as="DIADEM-CCF",
        published={"SSD_F1": 0.792, "L_F1": 0.755, "PE": 2.491, "JE": 5.1, "ABL": 107.1},
    ),
)
PREPARE_PRESETS = {preset.name: preset.prepare for preset in DATASETS}
TRAIN_PRESETS = {preset.name: preset.train for preset in DATASETS}
