"""Dataset folders: valid layouts and wrong ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lib.errors import UserError
from lib.klib.image_io import write_png, write_tiff
from lib.klib.spaces import Spaces
from lib.swclib import SwcForest, SwcOrigin, SwcSpace, read_swc
from tools.data.folders import Case, check_tree_inside, dataset_root, find_cases, load_tree
from tools.tracing.trace import Trace

LINE = "1 0 3.5 2.5 0 1 -1\n2 0 8.5 2.5 0 1 1\n"


def lay_out(root: Path, *names: str) -> Path:
    """Create files by relative name: images of 6 x 12 pixels, and SWC files with a short line."""
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".swc":
            path.write_text(LINE)
        else:
            write_png(path, np.zeros((6, 12), np.uint8))
    return root


def test_every_file_finds_its_image(tmp_path: Path) -> None:
    lay_out(tmp_path, "images_color/10.png", "images_color/2.png", "swc/2_manual1.swc", "swc/10.swc")
    lay_out(tmp_path, "labels/2.png", "labels/10.corrected.png", "labels/77.png", "swc/readme.txt")
    assert find_cases(tmp_path) == [
        Case("2", tmp_path / "images_color/2.png", tmp_path / "swc/2_manual1.swc", tmp_path / "labels/2.png"),
        Case("10", tmp_path / "images_color/10.png", tmp_path / "swc/10.swc", tmp_path / "labels/10.corrected.png"),
    ]


def test_longest_stem_wins(tmp_path: Path) -> None:
    lay_out(tmp_path, "images/01.png", "images/01_left.png", "images/1.png")
    lay_out(tmp_path, "swc/01_left.swc", "swc/01.swc", "swc/1.swc")
    cases = find_cases(tmp_path)
    assert [case.swc and case.swc.stem for case in cases] == [case.name for case in cases]


def test_trees_are_optional_when_not_needed(tmp_path: Path) -> None:
    lay_out(tmp_path, "images/a.png")
    assert find_cases(tmp_path, need_tree=False) == [Case("a", tmp_path / "images/a.png")]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ((), "no such folder; give one that holds images_color/ or images/, with swc/ or labels/"),
        (("pictures/a.png",), "has no folder of images; it must hold images_color/ or images/"),
        (("images/readme.txt",), "no image in this folder"),
        (("images/a.png", "images/b.png", "images/c.png", "swc/b.swc"), r"a\.png: has no tree \(and 1 more\); add"),
        (("images/a.png", "swc/a.swc", "swc/b.swc"), r"swc/b\.swc: has no image"),
        (("images/a1.png", "swc/a11.swc"), r"swc/a11\.swc: has no image"),
        (("images/a.png", "swc/a_1.swc", "swc/a_2.swc"), r"swc/a_2\.swc: and a_1\.swc both belong to a\.png"),
        (("images/a.png", "images/a.bmp", "swc/a.swc"), r"a\.png: has the same name as a\.bmp"),
    ],
)
def test_wrong_layouts_are_reported(tmp_path: Path, names: tuple[str, ...], message: str) -> None:
    root = tmp_path / "own"
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    with pytest.raises(UserError, match=message) as caught:
        find_cases(root)
    assert "\n" not in str(caught.value)


def test_dataset_root_of_published_and_own_data(tmp_path: Path) -> None:
    lay_out(tmp_path / "published", "DRIVE/test/images_color/1.png")
    lay_out(tmp_path / "split", "training/images/1.png")
    lay_out(tmp_path / "flat", "images/1.png")
    assert dataset_root(tmp_path / "published", "drive", "test") == tmp_path / "published/DRIVE/test"
    assert dataset_root(tmp_path / "split", "drive", "training") == tmp_path / "split/training"
    assert dataset_root(tmp_path / "flat", "drive", "training") == tmp_path / "flat"
    with pytest.raises(UserError, match="neither ROAD/test/ nor images_color/"):
        dataset_root(tmp_path / "published", "ROAD", "test")


def test_origin_of_the_swc_file(tmp_path: Path) -> None:
    lay_out(tmp_path, "images/a.png", "swc/a.swc")
    (case,) = find_cases(tmp_path)
    assert load_tree(case, "centre")[0].positions(3).tolist() == [[0, 2.5, 3.5], [0, 2.5, 8.5]]
    forest, notes = load_tree(case, "corner")
    assert forest.positions(3).tolist() == [[0, 2, 3], [0, 2, 8]]
    assert notes == ("coordinate 0 is the corner of the first pixel, by --swc_origin",)


@pytest.mark.parametrize(("stated", "shift"), [("corner", 0.5), ("centre", 0.0)])
def test_the_head_of_an_swc_file_decides_its_origin(tmp_path: Path, stated: SwcOrigin, shift: float) -> None:
    forest = SwcForest.from_positions([[0.0, 0.0], [7.0, 9.0]], [-1, 0])
    spaces = Spaces.scaled((20, 30), 1.0)
    trace = Trace(forest, np.zeros((20, 30)), spaces, np.zeros((0, 2, 2)), space=SwcSpace(stated, "voxel"))
    trace.write(tmp_path / "a.swc")
    assert read_swc(tmp_path / "a.swc").xyz[0].tolist() == [shift, shift, 0]
    for origin in ("corner", "centre"):
        tree, notes = load_tree(Case("a", tmp_path / "a.png", swc=tmp_path / "a.swc"), origin)
        assert tree.xyz.tolist() == forest.xyz.tolist()
        assert notes == (f"coordinate 0 is the {stated} of the first pixel, by the head of the SWC",)


def test_tree_from_a_label(tmp_path: Path) -> None:
    label = np.zeros((9, 9), np.uint8)
    label[2:7, 2:7] = 255
    label[3:6, 3:6] = 0
    write_tiff(tmp_path / "a.tif", label)
    forest, notes = load_tree(Case("a", tmp_path / "a.png", label=tmp_path / "a.tif"), "corner")
    assert label[tuple(forest.positions(2).astype(int).T)].all()
    assert notes == ("tree taken from the label's skeleton, 1 loops cut",)


@pytest.mark.parametrize(("value", "message"), [(0, "empty"), (255, "full")])
def test_label_without_a_centerline(tmp_path: Path, value: int, message: str) -> None:
    write_png(tmp_path / "a.png", np.full((4, 4), value, np.uint8))
    with pytest.raises(UserError, match=f"the label is {message}"):
        load_tree(Case("a", tmp_path / "a.png", label=tmp_path / "a.png"), "centre")


def test_case_without_any_tree(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no SWC file and no label"):
        load_tree(Case("a", tmp_path / "a.png"), "centre")


def chain(*positions: tuple[float, ...]) -> SwcForest:
    return SwcForest.from_positions(np.array(positions, float), np.arange(len(positions)) - 1)


def test_tree_on_its_image_passes() -> None:
    check_tree_inside(chain((0, 0), (99, 199), (101.5, 201.5), (-1.5, 0)), (100, 200), "a.swc")
    check_tree_inside(SwcForest.empty(), (100, 200), "a.swc")
    few = chain((300, 300), *[(50, x) for x in range(40)])
    check_tree_inside(few, (100, 200), "a.swc")


@pytest.mark.parametrize(
    ("positions", "shape", "message"),
    [
        (((4, 4), (195, 390)), (100, 200), r"y 4 to 195 \(image 0 to 99\), x 4 to 390 \(image 0 to 199\).* 2 times"),
        (((5, 50), (180, 90)), (100, 200), "x and y seem to be exchanged"),
        (((-50, 5), (-20, 90)), (100, 200), "in pixels of this image"),
        (((5, 5, 5), (90, 150, 160)), (10, 200, 200), r"z 5 to 90 \(image 0 to 9\).*in pixels"),
    ],
)
def test_tree_outside_its_image_is_reported(positions: tuple, shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(UserError, match=rf"a\.swc: \d+% of the nodes lie outside the image: .*{message}"):
        check_tree_inside(chain(*positions), shape, "a.swc")
