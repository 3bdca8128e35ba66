"""A retina and a simulated neuron, traced, and a window on a copy of them; needs napari and a display."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from lib.klib.image_io import write_tiff
from lib.swclib import SwcForest, read_swc
from lib.swclib.spurs import spans
from tools.proofreading.session import Session

ROOT = Path(__file__).resolve().parents[2]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip the tests of this folder where no window can be opened."""
    import importlib.util

    missing = next((name for name in ("napari", "qtpy", "npe2") if importlib.util.find_spec(name) is None), None)
    reason = f"{missing} is not installed" if missing else "" if os.environ.get("DISPLAY") else "there is no display"
    if reason:
        for item in items:
            if Path(__file__).parent in item.path.parents:
                item.add_marker(pytest.mark.skip(reason=f"{reason}; run `make window`"))


@pytest.fixture(scope="session")
def retina(tmp_path_factory) -> Path:
    """Folder of the retina of scikit-image (CC0), traced."""
    from skimage import data

    import train_2D

    folder = tmp_path_factory.mktemp("retina")
    write_tiff(folder / "eye.tif", np.ascontiguousarray(data.retina()[..., :3]))
    command = f"--mode test --weights DRIVE --images {folder / 'eye.tif'} --out {folder} --scale 0.8"
    train_2D.main(command.split())
    return folder


@pytest.fixture(scope="session")
def neuron(tmp_path_factory) -> Path:
    """Folder of a simulated neuron, traced."""
    import train_3D
    from tools.simulation import demo_volume

    folder = tmp_path_factory.mktemp("neuron")
    write_tiff(folder / "neuron.tif", demo_volume(0).volume)
    train_3D.main(f"--mode test --weights FMOST --images {folder / 'neuron.tif'} --out {folder}".split())
    return folder


class Screen:
    """A window, and the hands of its user: real events of mouse and keyboard on the canvas."""

    def __init__(self, image: Path, trace: Path) -> None:
        from qtpy.QtWidgets import QApplication

        from tools.proofreading.window import Window

        self.window = Window(Session.open(image, trace))
        self.session = self.window.session
        self.application = QApplication.instance()
        self.window.viewer.window._qt_window.resize(1400, 900)
        self.wait(0.5)
        self.window.viewer.reset_view()
        self.wait(0.3)

    def wait(self, seconds: float = 0.05) -> None:
        """Let the window work, and the camera arrive."""
        end = time.monotonic() + seconds
        while time.monotonic() < end or self.window.flight.is_under_way:
            self.application.processEvents()
            time.sleep(0.005)

    def pixel(self, position: np.ndarray) -> tuple[int, int]:
        """Pixel (x, y) of the canvas that shows an image position."""
        camera, canvas = self.window.viewer.scene.camera, self.window.canvas
        middle = np.array([canvas.width(), canvas.height()]) / 2
        offset = position * self.session.spacing - np.array(camera.center)[-len(position) :]
        if self.window.viewer.dims.ndisplay == 3:
            up, sight = np.array(camera.up_direction), np.array(camera.view_direction)
            offset = np.array([-(offset @ up), offset @ np.cross(sight, up)])
        return tuple(np.rint(middle + offset[::-1] * camera.zoom).astype(int).tolist())

    def look_at(self, position: np.ndarray, zoom: float = 4.0) -> None:
        """Bring a position into the middle of the canvas."""
        self.window.viewer.scene.camera.center = tuple((position * self.session.spacing).tolist())
        self.window.viewer.scene.camera.zoom = zoom
        self.wait()

    def hover(self, position: np.ndarray) -> None:
        """Move the mouse to an image position."""
        from qtpy.QtCore import QPoint
        from qtpy.QtTest import QTest

        at = self.pixel(position)
        QTest.mouseMove(self.window.canvas, QPoint(at[0] + 3, at[1]))
        self.wait()
        QTest.mouseMove(self.window.canvas, QPoint(*at))
        self.wait()

    def click(self, position: np.ndarray) -> None:
        """Click on an image position."""
        from qtpy.QtCore import QPoint, Qt
        from qtpy.QtTest import QTest

        self.hover(position)
        QTest.mouseClick(
            self.window.canvas, Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier, QPoint(*self.pixel(position))
        )
        # A second click soon after would be a double click, which zooms.
        self.wait(self.application.doubleClickInterval() / 1000 + 0.05)

    def press(self, keys: str) -> None:
        """Press keys, named as in Qt: ``N``, ``Ctrl+Z``."""
        from qtpy.QtGui import QKeySequence
        from qtpy.QtTest import QTest

        combination = QKeySequence(keys)[0]
        QTest.keyClick(self.window.canvas, combination.key(), combination.keyboardModifiers())
        self.wait()

    def leave(self) -> None:
        """Take the mouse off the canvas."""
        from qtpy.QtCore import QEvent

        self.application.sendEvent(self.window.canvas, QEvent(QEvent.Type.Leave))

    def close(self) -> None:
        """Close the window."""
        self.session.close()
        self.window.viewer.close()
        self.application.processEvents()


@pytest.fixture
def opened(tmp_path, request) -> Iterator[Callable[[Path, str], Screen]]:
    """Opens a copy of a traced image, again if it is open already."""
    screens: list[Screen] = []

    def open_copy(folder: Path, name: str, review: str = "") -> Screen:
        if screens:
            screens.pop().close()
        else:
            shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
        if review:
            (tmp_path / f"{name}_review.csv").write_text(review)
        screens.append(Screen(tmp_path / f"{name}.tif", tmp_path / f"{name}.swc"))
        return screens[-1]

    yield open_copy
    for screen in screens:
        screen.close()


def end_branch(forest: SwcForest, length: tuple[float, float]) -> np.ndarray:
    """Rows, from a fork to an end, of the longest branch that ends and has a length between two."""
    rows, ends, lengths = spans(forest)
    fits = (forest.degree[ends[:, 0]] > 2) & (forest.degree[ends[:, 1]] == 1)
    fits &= (lengths > length[0]) & (lengths < length[1])
    return rows[int(np.where(fits, lengths, 0).argmax())]


def queue_at(trace: Path, questions: list[tuple[str, int]]) -> str:
    """Text of a queue with a question at each of some rows."""
    forest = read_swc(trace)
    lines = ["rank,question,branch,node,x,y,z,confidence,gain"]
    for rank, (question, row) in enumerate(questions, start=1):
        x, y, z = forest.xyz[row].tolist()
        lines.append(f"{rank},{question},1,{forest.ids[row]},{x},{y},{z},{0.3 + rank / 10},{10 - rank}")
    return "\n".join(lines) + "\n"


def at_first_of_two(opened: Callable[..., Screen], trace: Path, *lengths: tuple[float, float]) -> tuple[Screen, list]:
    """A window on the first of two doubts, the mouse at rest on it, and the end branches in whose middles they lie."""
    forest = read_swc(trace)
    branches = [end_branch(forest, length) for length in lengths]
    questions = [("real?", rows[len(rows) // 2]) for rows in branches]
    screen = opened(trace.parent, trace.stem, queue_at(trace, questions))
    screen.press("N")
    screen.hover(np.array(screen.session.doubt.position))
    return screen, branches
