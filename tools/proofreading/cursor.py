"""Where the mouse points now: napari knows only where it pointed when it was last moved, before the view flew on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QEvent, QObject  # type: ignore[import-not-found]

from lib.errors import UserError

if TYPE_CHECKING:
    import napari  # type: ignore[import-not-found]


class Cursor(QObject):
    """Follows the mouse over the canvas of a viewer.

    Parameters
    ----------
    viewer
        The viewer, of one canvas.
    """

    def __init__(self, viewer: napari.Viewer) -> None:
        self._canvas: Any = viewer.window._qt_viewer.canvas  # napari has no public name for it
        super().__init__(self._canvas.native)
        self._pixel: tuple[float, float] | None = None
        self._canvas.native.installEventFilter(self)

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        """Remember the pixel of the mouse; nothing is taken from others."""
        if event.type() == QEvent.Type.Leave:
            self._pixel = None
        elif event.type() in (QEvent.Type.MouseMove, QEvent.Type.MouseButtonPress, QEvent.Type.Enter):
            place = event.position()  # type: ignore[attr-defined]
            self._pixel = place.x(), place.y()
        return False

    def position(self) -> np.ndarray:
        """World coordinates ``(ndim,)`` under the mouse in the view of now; in 3D any on the line of sight.

        Raises
        ------
        UserError
            If the mouse is not over the canvas.
        """
        if self._pixel is None:
            raise UserError("the mouse is not over the image; move it onto the trace")
        return np.array(self._canvas._map_canvas2world(self._pixel, self._canvas.view))
