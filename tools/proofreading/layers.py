"""The layers of the window: the image, the edges of the trees, their ends and forks, marks, and the doubt."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from matplotlib.colors import to_rgba

from tools.pictures.overlay import SURENESS, TREE_COLOURS
from tools.proofreading.doubts import Doubt
from tools.proofreading.session import Session

if TYPE_CHECKING:
    import napari  # type: ignore[import-not-found]
ColourBy = Literal["tree", "confidence"]

SIZES = {"edges": 3.0, "doubted": 6.0, "forks": 5.0, "ends": 9.0, "marks": 14.0, "place": 60.0}
"""Widths of lines and sizes of marks in screen pixels."""
CLOSE = 0.1
"""Logarithm of a change of zoom after which sizes are not fitted again."""
BY_HAND = "#FFFFFF"
"""Colour, among those of confidence, of edges of which none is known: those drawn by hand."""
DARKEST, BRIGHTEST = 50.0, 99.9
"""Percentiles of a volume that become black and white."""


class TraceLayers:
    """Shows a session in a viewer.

    The edges are a layer of vectors: 20 000 are drawn again in 0.3 s. Shapes take half a minute for 200 branches.

    Parameters
    ----------
    viewer
        The viewer.
    session
        The session, which is only read.
    """

    def __init__(self, viewer: napari.Viewer, session: Session) -> None:
        self.viewer, self.session = viewer, session
        self.colour_by: ColourBy = "tree"
        self._colour_of_root: dict[int, int] = {}
        self._unit = 1e-9  # of no zoom: the first sizes are always fitted
        _add_image(viewer, session)
        ndim, scale = session.ndim, session.spacing
        flat = {"blending": "translucent_no_depth"}  # lines that lie in each other flicker where depth counts
        empty: dict[str, Any] = {
            "data": np.zeros((0, 2, ndim)),
            "ndim": ndim,
            "scale": scale,
            "vector_style": "line",
            **flat,
        }
        none: dict[str, Any] = {"ndim": ndim, "scale": scale, "border_color": "#FFFFFF", **flat}
        # A layer that is added later lies above.
        self.doubted = viewer.add_vectors(name="doubted branch", edge_color="#FFFFFF", opacity=1, **empty)
        self.edges = viewer.add_vectors(name="trees", opacity=0.9, **empty)
        self.forks = viewer.add_points(name="forks", face_color="#FFFFFF", border_width=0, **none)
        self.ends = viewer.add_points(name="ends", face_color="#202020", border_width=0.25, **none)
        self.marks = viewer.add_points(name="marked", face_color="#FF40FF", border_width=0.15, **none)
        self.place = viewer.add_points(name="doubt", face_color="transparent", border_width=0.06, **none)
        for layer in (self.doubted, self.edges, self.forks, self.ends, self.marks, self.place):
            layer.interactive = layer.mouse_pan = True

    def refresh(self) -> None:
        """Show the trees as they are now."""
        forest, ndim = self.session.forest, self.session.ndim
        places = forest.positions(ndim)
        above, child = forest.edges.T
        self.edges.data = np.stack([places[above], places[child] - places[above]], axis=1)
        self.recolour()
        self.ends.data = places[forest.degree == 1]
        self.forks.data = places[forest.degree > 2]

    def recolour(self) -> None:
        """Give the edges their colours."""
        if len(self.edges.data):
            self.edges.edge_color = self._colours()
        self.fit_sizes()

    def fit_sizes(self) -> None:
        """Draw lines and marks as large on the screen as :data:`SIZES` says, at the zoom of now."""
        unit = 1 / self.viewer.scene.camera.zoom
        if abs(np.log(unit / self._unit)) < CLOSE:
            return
        self._unit = unit
        for layer, size in SIZES.items():
            shown = getattr(self, layer)
            if layer in ("edges", "doubted"):
                shown.edge_width = size * unit
            else:
                shown.current_size = size * unit
                shown.size = size * unit

    def show_doubt(self, doubt: Doubt | None, branch: np.ndarray) -> None:
        """Ring the place of a doubt, and mark its branch ``(n, ndim)``."""
        self.place.data = np.array([doubt.position]) if doubt else np.zeros((0, self.session.ndim))
        self.doubted.data = np.stack([branch[:-1], np.diff(branch, axis=0)], axis=1) if len(branch) else (
            np.zeros((0, 2, self.session.ndim))
        )  # fmt: skip

    def show_marks(self, places: np.ndarray) -> None:
        """Show the marked nodes ``(K, ndim)``."""
        self.marks.data = places.reshape(-1, self.session.ndim)

    def _colours(self) -> np.ndarray:
        """``(M, 4)`` colour of every edge."""
        forest = self.session.forest
        child = forest.edges[:, 1]
        if self.colour_by == "confidence" and self.session.confidence is not None:
            known = np.array([self.session.confidence.get(node, np.nan) for node in forest.ids[child].tolist()])
            colours = np.asarray(SURENESS(np.nan_to_num(known)))
            return np.where(np.isnan(known)[:, None], to_rgba(BY_HAND), colours)
        # A tree keeps its colour as long as it keeps its root.
        roots = forest.ids[forest.roots].tolist()
        number = [self._colour_of_root.setdefault(root, len(self._colour_of_root)) for root in roots]
        palette = np.array([to_rgba(colour) for colour in TREE_COLOURS])
        return palette[np.array(number, dtype=int)[forest.components[child]] % len(palette)]


def _add_image(viewer: napari.Viewer, session: Session) -> None:
    """Add the image, a volume as its brightest voxels along the line of sight."""
    pixels, ndim = session.picture.pixels, session.ndim
    if pixels.ndim > ndim:
        viewer.add_image(pixels, name="image", rgb=pixels.shape[-1] in (3, 4), scale=session.spacing)
        return
    step = tuple(slice(None, None, max(1, size // 64)) for size in pixels.shape)
    low, high = np.percentile(pixels[step], (DARKEST, BRIGHTEST)).tolist()
    limits = (low, high) if high > low else (low, low + 1)
    viewer.add_image(
        pixels,
        name="image",
        scale=session.spacing,
        contrast_limits=limits,
        colormap="gray",
        gamma=0.8 if ndim == 3 else 1,
    )
