"""Keys of the window, caught before napari's own: its layers use many of the same letters."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from qtpy.QtCore import QEvent, QObject, Qt  # type: ignore[import-not-found]
from qtpy.QtGui import QKeyEvent, QKeySequence  # type: ignore[import-not-found]


class Keys(QObject):
    """Calls a command for a key that is pressed while a widget has the focus.

    Parameters
    ----------
    widget
        Usually the canvas.
    commands
        By the name of the key, as Qt writes it: ``N``, ``Del``, ``Ctrl+Shift+Z``.
    """

    def __init__(self, widget: QObject, commands: Mapping[str, Callable[[], None]]) -> None:
        super().__init__(widget)
        self._commands = commands
        widget.installEventFilter(self)

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        """Take the events of our keys; Qt asks with a ``ShortcutOverride`` before it looks into the menus."""
        if not isinstance(event, QKeyEvent):
            return False
        command = self._commands.get(_name(event))
        if command is None:
            return False
        event.accept()
        if event.type() == QEvent.Type.KeyPress:
            command()
        return event.type() in (QEvent.Type.KeyPress, QEvent.Type.KeyRelease, QEvent.Type.ShortcutOverride)


def _name(event: QKeyEvent) -> str:
    modifiers = event.modifiers() & ~Qt.KeyboardModifier.KeypadModifier
    return QKeySequence(event.keyCombination() if not modifiers else _combined(event, modifiers)).toString()


def _combined(event: QKeyEvent, modifiers: Qt.KeyboardModifier) -> int:
    return modifiers.value | event.key()
