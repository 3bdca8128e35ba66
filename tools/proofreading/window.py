"""The window of the proofreader: napari with keys that call :class:`~tools.proofreading.session.Session`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import napari  # type: ignore[import-not-found]
import numpy as np
from qtpy.QtCore import QCoreApplication, QTimer  # type: ignore[import-not-found]

from lib.errors import UserError
from lib.swclib import subset
from lib.vectors import unit
from tools.proofreading.cursor import Cursor
from tools.proofreading.dock import Panel
from tools.proofreading.doubts import Doubt
from tools.proofreading.flight import Flight
from tools.proofreading.keys import Keys
from tools.proofreading.layers import TraceLayers
from tools.proofreading.operations import Accept, Operation
from tools.proofreading.picking import Picked, flat_view, nearest_edge, nearest_node
from tools.proofreading.session import Session

PICK = 14.0
"""Screen pixels within which a node or an edge is under the cursor."""
LEAST_VIEW, LARGEST_VIEW = 60.0, 160.0
"""Pixels from the middle of the view to its side when it shows a doubt."""
LEAST_WINDOW = 1400, 900
"""Width and height of the window in screen pixels, where the screen has as many; on a larger one nine tenths of it."""
SETTLED = 200
"""Milliseconds without zoom after which the lines get their width."""

KEYS = [
    ("N / P", "next / previous doubt"),
    ("A", "accept: the trace is right here"),
    ("click", "mark a node; two are kept (Esc: none)"),
    ("W", "draw from the mark to the cursor"),
    ("J", "join the two marks"),
    ("X", "cut the edge at the cursor"),
    ("D, Del", "delete the branch at the cursor"),
    ("M", "move the node at the cursor; click puts it down"),
    ("U, Ctrl+Z", "undo"),
    ("Ctrl+Y", "redo (also Ctrl+Shift+Z)"),
    ("C", "colours: tree or confidence"),
    ("H", "hide or show the trees"),
    ("Ctrl+S", "save the SWC"),
]
"""Keys as the panel and docs/proofreading.md list them."""


def show(session: Session) -> None:
    """Open the window of a session, and return when it is closed."""
    _window = Window(session)  # napari keeps the viewer, not us
    napari.run()


class Window:
    """A viewer that shows a session, and turns keys and clicks into its operations.

    Attributes
    ----------
    viewer
        The viewer of napari.
    session
        What is shown.
    marked
        Ids of the marked nodes, at most two.
    moving
        Id of the node that follows the mouse; None if none does.
    """

    def __init__(self, session: Session) -> None:
        self.session = session
        self.viewer = napari.Viewer(title=f"NETracer - {session.trace.name}", ndisplay=session.ndim)
        self.layers = TraceLayers(self.viewer, session)
        self.flight = Flight(self.viewer, self.layers.fit_sizes)
        self.marked: list[int] = []
        self.moving: int | None = None
        self._shown = -1
        self.panel = Panel(
            KEYS, [("Previous", self.previous), ("Next", self.next), ("Accept", self.accept), ("Save", self.save)]
        )
        self.viewer.window.add_dock_widget(self.panel, name="Proofreading", area="right")
        self.canvas: Any = self.viewer.window._qt_viewer.canvas.native  # napari has no public name for it
        self.cursor = Cursor(self.viewer)
        self.keys = Keys(self.canvas, self._commands())
        self.viewer.mouse_drag_callbacks.append(self._on_press)
        self.viewer.mouse_move_callbacks.append(self._on_move)
        self._settled = QTimer(singleShot=True, interval=SETTLED)
        self._settled.timeout.connect(self.layers.fit_sizes)
        self.viewer.scene.camera.events.zoom.connect(lambda _: self._settled.start())
        self.viewer.layers.selection = {self.viewer.layers["image"]}
        self._enlarge()
        self.viewer.reset_view()
        self.refresh()
        self.canvas.setFocus()
        if session.doubt is not None:
            self._fly_to(session.doubt)
        if session.notes:
            self.say("\n".join(session.notes))

    def _enlarge(self) -> None:
        """Make room for image and panel, and wait until the canvas has its size, to which the image is fitted."""
        screen = self.canvas.screen().availableGeometry()
        whole, least = np.array([screen.width(), screen.height()]), np.array(LEAST_WINDOW)
        self.viewer.window.resize(*np.minimum(whole, np.maximum(least, 0.9 * whole)).astype(int).tolist())
        QCoreApplication.processEvents()

    def _commands(self) -> dict[str, Callable[[], None]]:
        """Every key and what it does."""
        commands = {
            "N": self.next, "P": self.previous, "A": self.accept, "X": self.cut, "J": self.join, "W": self.draw,
            "M": self.move, "U": self.undo, "C": self.recolour, "H": self.hide, "Esc": self.clear_marks,
            "D": self.delete, "Del": self.delete, "Backspace": self.delete, "Ctrl+Z": self.undo, "Ctrl+Y": self.redo,
            "Ctrl+Shift+Z": self.redo, "Ctrl+S": self.save,
        }  # fmt: skip
        return {key: partial(self._safely, command) for key, command in commands.items()}

    def _safely(self, command: Callable[..., None], *arguments: Any) -> None:
        """Call a command; what it refuses is said in the status bar."""
        try:
            command(*arguments)
        except UserError as error:
            self.say(str(error))
        self.refresh()

    def say(self, message: str) -> None:
        """Show a message in the status bar and in the panel."""
        self.viewer.status = message.replace("\n", "; ")
        self.panel.say(message)

    def refresh(self) -> None:
        """Show the session as it is now."""
        if self._shown != self.session.revision:
            self.layers.refresh()
            self._shown = self.session.revision
            alive = set(self.session.forest.ids.tolist())
            self.marked = [node for node in self.marked if node in alive]
            self.layers.show_doubt(self.session.doubt, self._branch_of(self.session.doubt))
        self.layers.show_marks(self._places(self.marked))
        self.panel.show_session(self.session)

    # ---- the queue -------------------------------------------------------------------------------------------------

    def next(self) -> None:
        """Fly to the next open doubt."""
        doubt = self.session.next_doubt()
        self._show(doubt, "no open doubt is left" if self.session.queue else "there is no queue beside this trace")

    def previous(self) -> None:
        """Fly to the doubt before."""
        self._show(self.session.previous_doubt(), "there is no doubt before this one")

    def accept(self) -> None:
        """Accept the doubt that is shown, and fly to the next."""
        self.session.accept()
        doubt = self.session.next_doubt()
        self._show(doubt, "accepted; no open doubt is left")

    def _show(self, doubt: Doubt | None, otherwise: str) -> None:
        if doubt is None:
            self.say(otherwise)
            self.refresh()
            return
        self.say("")
        self._fly_to(doubt)
        if doubt.question == "ends here?" and doubt.node in self.session.forest.ids:
            self.marked = [doubt.node]
        self.refresh()

    def _fly_to(self, doubt: Doubt) -> None:
        branch, spacing = self._branch_of(doubt), self.session.spacing
        place = np.array(doubt.position) * spacing
        self.layers.show_doubt(doubt, branch)
        away = np.linalg.norm(branch * spacing - place, axis=1).max() if len(branch) else LEAST_VIEW
        side = float(np.clip(1.3 * away, LEAST_VIEW, LARGEST_VIEW))
        zoom = min(self.canvas.width(), self.canvas.height()) / (2 * side)
        flat = self._plane_at(doubt, branch)
        self.flight.to(place, zoom, flat_view(flat, spacing) if self.session.ndim == 3 and len(flat) > 1 else None)

    def _branch_of(self, doubt: Doubt | None) -> np.ndarray:
        """Positions ``(n, ndim)`` of the branch that a doubt names, else of that at its place; none if it is gone."""
        forest, spacing, none = self.session.forest, self.session.spacing, np.zeros((0, self.session.ndim))
        if doubt is None:
            return none
        place, end = np.array(doubt.position), np.flatnonzero(forest.ids == doubt.branch_end)
        if len(end) and forest.parent[end[0]] >= 0:
            branch = self._places(self.session.branch(*forest.ids[[end[0], forest.parent[end[0]]]].tolist()))
            if np.linalg.norm((branch - place) * spacing, axis=1).min() <= PICK:
                return branch
        edge = nearest_edge(forest, place, spacing)
        return none if edge is None or edge.distance > PICK else self._places(self.session.branch(*edge.nodes))

    def _plane_at(self, doubt: Doubt, branch: np.ndarray) -> np.ndarray:
        """Positions that are to lie flat: the branch, or at a join all that is near it."""
        if doubt.question != "joined here?":
            return branch
        places = self.session.forest.positions(self.session.ndim)
        return places[np.linalg.norm((places - doubt.position) * self.session.spacing, axis=1) <= LEAST_VIEW / 2]

    # ---- operations ------------------------------------------------------------------------------------------------

    def cut(self) -> None:
        """Cut the edge at the cursor."""
        self.session.cut(*self._under(nearest_edge, "edge").nodes)
        self.say("cut")

    def delete(self) -> None:
        """Delete the branch at the cursor."""
        self.session.delete(*self._under(nearest_edge, "branch").nodes)
        self.say("branch deleted")

    def join(self) -> None:
        """Join the two marked nodes."""
        if len(self.marked) != 2:
            raise UserError("mark two ends first, with a click on each")
        self.session.join(*self.marked)
        self.marked = []
        self.say("joined")

    def draw(self) -> None:
        """Draw from the node that was marked last to the cursor; its end is marked, so that drawing can go on."""
        if not self.marked:
            raise UserError("mark the end from which to draw first, with a click on it")
        place, sight = self._line_of_sight()
        target = place if sight is None else self.session.aim(place, sight)
        drawn = self.session.draw(self.marked[-1], target.tolist())
        is_joined = getattr(drawn, "end", None) is not None
        self.marked = [] if is_joined else [int(self.session.nodes["id"][-1])]
        self.say("drawn and joined" if is_joined else "drawn")

    def move(self) -> None:
        """Take the node at the cursor, which follows the mouse until a click; the same key puts it down, too."""
        if self.moving is not None:
            self._put_down()
            return
        self.moving = self._node_under()
        self.marked = [self.moving]
        self.say("move the mouse; a click puts the node down, Esc leaves it where it was")

    def undo(self) -> None:
        """Take the last operation back, and return to the doubt that it answered."""
        self._turn(self.session.undo, "undone", "there is nothing to undo")

    def redo(self) -> None:
        """Do again what was taken back last, at the doubt that it answered."""
        self._turn(self.session.redo, "done again", "there is nothing to do again")

    def _turn(self, step: Callable[[], Operation | None], done: str, otherwise: str) -> None:
        before = self.session.doubt
        operation, doubt = step(), self.session.doubt
        if doubt is not before or isinstance(operation, Accept):  # what was drawn or deleted here is in view
            self._show(doubt, "")
        where = f" at doubt {operation.doubt}" if operation and operation.doubt is not None else ""
        self.say(f"{done}: {operation.name}{where}" if operation else otherwise)

    def save(self) -> None:
        """Save the SWC."""
        self.say(f"saved as {self.session.save().name}; the journal keeps where you are")

    def recolour(self) -> None:
        """Colour by confidence instead of by tree, or back."""
        if self.session.confidence is None:
            raise UserError("no confidence beside this trace: the table of branches has none")
        self.layers.colour_by = "tree" if self.layers.colour_by == "confidence" else "confidence"
        self.layers.recolour()
        meaning = "red: doubtful, blue: sure, white: by hand" if self.layers.colour_by == "confidence" else "trees"
        self.say(f"colours: {meaning}")

    def hide(self) -> None:
        """Hide the trees, or show them."""
        shown = not self.layers.edges.visible
        for layer in (self.layers.edges, self.layers.ends, self.layers.forks, self.layers.doubted):
            layer.visible = shown

    def clear_marks(self) -> None:
        """Forget the marks; a node that follows the mouse stays where it was."""
        self.marked, self.moving = [], None
        self.say("")

    # ---- the mouse -------------------------------------------------------------------------------------------------

    def _on_press(self, viewer: napari.Viewer, event: Any) -> Iterator[None]:
        """A click without a movement marks a node, or puts one down."""
        begin = np.array(event.pos)
        yield
        while event.type == "mouse_move":
            yield
        if event.button == 1 and np.abs(np.array(event.pos) - begin).max() <= 3:
            self._safely(self._put_down if self.moving is not None else self._mark)

    def _on_move(self, viewer: napari.Viewer, event: Any) -> None:
        if self.moving is not None and not self.flight.is_under_way:
            self.layers.show_marks(self._carried(self.moving)[None])

    def _mark(self) -> None:
        try:
            node = self._node_under()
        except UserError:
            return  # a click beside the trace means nothing
        self.marked = [*[each for each in self.marked if each != node], node][-2:]

    def _put_down(self) -> None:
        node = self.moving
        assert node is not None
        place = self._carried(node)
        self.marked, self.moving = [], None
        self.session.move(node, place.tolist())
        self.say("moved")

    def _carried(self, node: int) -> np.ndarray:
        """Where the cursor takes a node: in a volume at its own depth."""
        place, sight = self._line_of_sight()
        if sight is None:
            return place
        spacing = self.session.spacing
        here = self._places([node])[0]
        across = unit(sight * spacing)
        return place + ((here - place) * spacing @ across) * across / spacing

    def _line_of_sight(self) -> tuple[np.ndarray, np.ndarray | None]:
        """Position under the cursor and, where a volume is shown in 3D, the direction of the line of sight.

        Raises
        ------
        UserError
            If the mouse is elsewhere, or the view flies: nobody can aim then.
        """
        if self.flight.is_under_way:
            raise UserError("the view is still moving; look where the cursor is, and press the key again")
        spacing = self.session.spacing
        place = self.cursor.position()[-self.session.ndim :] / spacing
        if self.viewer.dims.ndisplay == 2:
            return place, None
        return place, np.array(self.viewer.scene.camera.view_direction) / spacing

    def _under(self, search: Callable[..., Picked | None], name: str, forest: Any = None) -> Picked:
        """The nearest node or edge at the cursor."""
        place, sight = self._line_of_sight()
        found = search(self.session.forest if forest is None else forest, place, self.session.spacing, sight)
        if found is None or found.distance * self.viewer.scene.camera.zoom > PICK:
            raise UserError(f"no {name} is under the cursor; move it onto the trace")
        return found

    def _node_under(self) -> int:
        """Id of the end at the cursor, or of another node where there is no end."""
        forest = self.session.forest
        try:
            return self._under(nearest_node, "end", subset(forest, forest.degree == 1)).nodes[0]
        except UserError:
            return self._under(nearest_node, "node").nodes[0]

    def _places(self, nodes: list[int]) -> np.ndarray:
        """Positions ``(K, ndim)`` of nodes by their ids."""
        forest = self.session.forest
        row = {int(node): at for at, node in enumerate(forest.ids)} if nodes else {}
        return forest.positions(self.session.ndim)[[row[node] for node in nodes]].reshape(-1, self.session.ndim)
