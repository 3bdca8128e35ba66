"""The way of the camera to a doubt: in a quarter of a second, so that the eye follows."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from qtpy.QtCore import QTimer  # type: ignore[import-not-found]

if TYPE_CHECKING:
    import napari  # type: ignore[import-not-found]
STEPS, MILLISECONDS = 10, 25
"""Pictures on the way, and the time between them."""


class Flight:
    """Moves the camera of a viewer; a new flight ends the one before.

    Parameters
    ----------
    viewer
        The viewer.
    arrived
        Called at the end of every flight.
    """

    def __init__(self, viewer: napari.Viewer, arrived: Callable[[], None]) -> None:
        self._arrived = arrived
        self._camera = viewer.scene.camera
        self._viewer = viewer
        self._left = 0
        self._timer = QTimer()
        self._timer.setInterval(MILLISECONDS)
        self._timer.timeout.connect(self._step)

    @property
    def is_under_way(self) -> bool:
        """Whether the camera still moves."""
        return self._timer.isActive()

    def to(self, centre: np.ndarray, zoom: float, view: tuple[np.ndarray, np.ndarray] | None = None) -> None:
        """Fly to a place.

        Parameters
        ----------
        centre
            ``(ndim,)`` in world coordinates.
        zoom
            Screen pixels per unit of them.
        view
            Directions ``(3,)`` of the line of sight and of what is to lie along the screen, in a volume that is shown
            in 3D.
        """
        self._centre, self._zoom, self._left = centre, zoom, STEPS
        self._view = view if self._viewer.dims.ndisplay == 3 else None
        if len(centre) == 3 and self._viewer.dims.ndisplay == 2:
            self._viewer.dims.set_point(0, float(centre[0]))
        self._timer.start()

    def _step(self) -> None:
        share = 1 / self._left
        here = np.array(self._camera.center)[-len(self._centre) :]
        if self._view is not None:
            self._turn(share)
        self._camera.center = tuple((here + share * (self._centre - here)).tolist())
        self._camera.zoom = float(self._camera.zoom ** (1 - share) * self._zoom**share)
        self._left -= 1
        if not self._left:
            self._timer.stop()
            self._arrived()

    def _turn(self, share: float) -> None:
        """Turn a part of the way that is left."""
        assert self._view is not None
        sight, along = self._view
        now, up_now = np.array(self._camera.view_direction), np.array(self._camera.up_direction)
        sight = sight if sight @ now >= 0 else -sight
        # What lies along the screen stands at a right angle to what points up.
        up = np.cross(sight, along)
        up = up if up @ up_now >= 0 else -up
        turned, raised = now + share * (sight - now), up_now + share * (up - up_now)
        if min(np.linalg.norm(turned), np.linalg.norm(np.cross(turned, raised))) < 0.1:
            turned, raised = sight, up  # straight through the opposite
        self._camera.set_view_direction(tuple(turned.tolist()), tuple(raised.tolist()))
