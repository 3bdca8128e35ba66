"""The 2D datasets of the paper. A new dataset is one record here."""

from __future__ import annotations

from configs.presets import DatasetPreset

DATASETS = (
    DatasetPreset(
        name="DRIVE",
        ndim=2,
        prepare={"scale": 2.0, "swc_origin": "corner", "n_samples": 150_000},
        # The images held out are our choice.
        train={"hold_out": ["38", "39", "40"]},
        source="drive.grand-challenge.org",
        images="images_color/01.tif ...",
        official={"training": 20, "test": 20},
        published_as="DRIVE",
        published={"SSD_F1": 0.925, "L_F1": 0.824, "PE": 0.633, "JE": 1.9, "ABL": 74.4},
        borrowed_weights="DRIVE",
        borrowed_scale=2.0,
    ),
    DatasetPreset(
        name="CHASEDB1",
        ndim=2,
        prepare={"scale": 1.5, "swc_origin": "corner", "n_samples": 30_000},
        train={"epoch_size": 30_000},
        source="Kingston University (CHASE_DB1)",
        images="images_color/01L.tif ...",
        official={"training": 20, "test": 8},
        published_as="CHASEDB1",
        published={"SSD_F1": 0.837, "L_F1": 0.860, "PE": 0.771, "JE": 4.3, "ABL": 131.6},
        borrowed_weights="DRIVE",
        # SSD-F1 of DRIVE's weights on the training images 06L and 12R: .688 at 0.75, .683 at 1, .472 at 1.5.
        borrowed_scale=0.75,
    ),
    DatasetPreset(
        name="ROAD",
        ndim=2,
        prepare={"scale": 1.0, "swc_origin": "centre", "n_samples": 150_000},
        train={"batch_size": 128, "r": 3.0},
        source="Massachusetts Roads (Mnih, University of Toronto)",
        images="images_color/1.jpg ...",
        official={"training": 804, "test": 13},
        published_as="ROAD",
        published={"SSD_F1": 0.718, "L_F1": 0.836, "PE": 1.263, "JE": 8.2, "ABL": 234.4},
        borrowed_weights="DRIVE",
    ),
)
PREPARE_PRESETS = {preset.name: preset.prepare for preset in DATASETS}
TRAIN_PRESETS = {preset.name: preset.train for preset in DATASETS}
