"""The 2D datasets. To add a dataset, add a record here."""

from __future__ import annotations

from configs.presets import DatasetPreset

DATASETS = (
    DatasetPreset(
        name="DRIVE",
        ndim=2,
        prepare={"scale": 2.0, "swc_origin": "corner"},
        # The paper does not say which images it holds out.
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
        prepare={"scale": 1.5, "swc_origin": "corner"},
        train={"epoch_size": 30_000},
        source="Kingston University (CHASE_DB1)",
        images="images_color/01L.tif ...",
        official={"training": 20, "test": 8},
        published_as="CHASEDB1",
        published={"SSD_F1": 0.837, "L_F1": 0.860, "PE": 0.771, "JE": 4.3, "ABL": 131.6},
        borrowed_weights="DRIVE",
        # Best of 0.75, 1 and 1.5 on two training images.
        borrowed_scale=0.75,
    ),
    DatasetPreset(
        name="ROAD",
        ndim=2,
        prepare={"scale": 1.0, "swc_origin": "centre"},
        train={"batch_size": 128, "r": 3.0},
        source="Massachusetts Roads (Mnih, University of Toronto)",
        images="images_color/1.jpg ...",
        official={"training": 804, "test": 13},
        published_as="ROAD",
        published={"SSD_F1": 0.718, "L_F1": 0.836, "PE": 1.263, "JE": 8.2, "ABL": 234.4},
        is_network=True,
        borrowed_weights="DRIVE",
    ),
    # More to train on, which the paper's tables do not cover. At these scales vessels are about as wide as DRIVE's.
    DatasetPreset(name="ROAD_CROPS", ndim=2, prepare={"scale": 1.0, "swc_origin": "centre"}, is_network=True),
    DatasetPreset(name="HRF", ndim=2, prepare={"scale": 1.25}),
    DatasetPreset(name="LES_AV", ndim=2, prepare={"scale": 0.7}),
)
PREPARE_PRESETS = {preset.name: preset.prepare for preset in DATASETS}
TRAIN_PRESETS = {preset.name: preset.train for preset in DATASETS}
