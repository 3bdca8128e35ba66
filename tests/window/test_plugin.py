"""The plugin inside napari: an SWC file is opened and saved by its own menus' functions."""

from __future__ import annotations

from pathlib import Path

from lib.swclib import SwcSpace, write_swc
from tests.tools.proofreading.test_plugin import FOREST

MANIFEST = Path(__file__).resolve().parents[2] / "tools" / "proofreading" / "napari.yaml"


def test_the_manifest_is_valid():
    from npe2 import PluginManifest

    manifest = PluginManifest.from_file(MANIFEST)
    manifest.validate_imports()
    assert manifest.name == "netracer"


def test_napari_opens_and_saves_an_swc(tmp_path):
    import napari

    space = SwcSpace("corner", "um", (0.5, 0.25))
    write_swc(tmp_path / "a.swc", space.coordinates(FOREST), comment=space.head(2))
    viewer = napari.Viewer(show=False)
    try:
        (layer,) = viewer.open(str(tmp_path / "a.swc"), plugin="netracer")
        assert layer.name == "a" and layer.data[0].tolist() == [[5, 5], [0, 4]]
        layer.save(str(tmp_path / "b.swc"), plugin="netracer")
    finally:
        viewer.close()
    texts = [(tmp_path / name).read_text().splitlines() for name in ("a.swc", "b.swc")]
    assert texts[0] == texts[1]
