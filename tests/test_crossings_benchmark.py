"""The ablation of crossings, from training to the table, on small images whose trees are known."""

from __future__ import annotations

import json

import numpy as np
import pytest

from benchmarks import crossings
from lib.errors import UserError
from lib.klib.image_io import write_png
from lib.swclib import SwcForest
from tests.toy_training import toy_training
from tools.data.sampling import SampleShape
from tools.data.training_image import Source, TrainingImage


def test_variants_have_a_row_and_a_second_start_reuses_them(tmp_path, monkeypatch, capsys):
    """The images have no kinds, so the two variants that do not use them would be two others again."""
    monkeypatch.setattr(crossings, "VARIANTS", [each for each in crossings.VARIANTS if each.run == "full"])
    words = [*toy_training(tmp_path, nb_epoch=1, max_steps=2), f"--out={tmp_path / 'out'}", "--seeds=0"]
    crossings.main(words)
    table = capsys.readouterr().out.split("\n\n")[-1].splitlines()
    names = ["full", "full, brightest node instead of GDS", "skeleton of the map"]
    assert [line.split(" | ")[0].lstrip("| ") for line in table[2:]] == names
    stored = tmp_path / "out" / "full_0" / "full.json"
    row = json.loads(stored.read_text())
    row["scores"]["SSD_F1"] = 0.125
    stored.write_text(json.dumps(row))
    crossings.main(words)
    assert "| full | 0.125 ± 0.000" in capsys.readouterr().out


def test_golds_that_fork_need_a_folder_of_their_own():
    forking = [each for each in crossings.VARIANTS if each.forks]
    assert forking and all(each.run == "forks" and each.training["crossings"] == 0 for each in forking)


def test_label_images_are_found_by_dataset_and_name(tmp_path):
    labels = np.zeros((6, 6), np.uint8)
    labels[2] = 2
    write_png(tmp_path / "HRF" / "training" / "av" / "01_dr.png", labels)
    found, shared = crossings.read_kinds(tmp_path, image("HRF_01_dr"))
    np.testing.assert_array_equal(found, labels)
    assert shared == 3
    with pytest.raises(UserError, match="holds no label image for HRF_02"):
        crossings.read_kinds(tmp_path, image("HRF_02"))


def image(name: str) -> TrainingImage:
    """An image without a tree, of the dataset HRF."""
    pixels = np.zeros((6, 6, 3), np.uint8)
    return TrainingImage.build(name, pixels, SwcForest.empty(), SampleShape(10.0), source=Source("HRF", 1.25))
