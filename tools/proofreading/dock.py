"""The panel beside the image: the question, its confidence, how many are answered, and the keys."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape

from qtpy.QtCore import Qt  # type: ignore[import-not-found]
from qtpy.QtWidgets import QHBoxLayout, QLabel, QProgressBar, QPushButton, QVBoxLayout, QWidget  # type: ignore[import-not-found]

from tools.proofreading.session import Session


class Panel(QWidget):
    """Shows the state of a session; it takes no focus from the canvas.

    Parameters
    ----------
    keys
        Lines of the table of keys: key and meaning.
    buttons
        Names and commands of the buttons.
    """

    def __init__(self, keys: Sequence[tuple[str, str]], buttons: Sequence[tuple[str, Callable[[], None]]]) -> None:
        super().__init__()
        self.question, self.message = _label(), _label()
        self.progress = QProgressBar()
        self.progress.setFormat("%v of %m answered")
        row = QHBoxLayout()
        for name, command in buttons:
            button = QPushButton(name)
            button.setFocusPolicy(Qt.FocusPolicy.NoFocus)
            button.clicked.connect(lambda _=False, command=command: command())
            row.addWidget(button)
        layout = QVBoxLayout(self)
        for widget in (self.question, self.progress):
            layout.addWidget(widget)
        layout.addLayout(row)
        layout.addWidget(self.message)
        cells = "".join(
            f"<tr><td><b>{escape(key)}</b>&nbsp;&nbsp;</td><td>{escape(text)}</td></tr>" for key, text in keys
        )
        table = _label()
        table.setText(f"<table>{cells}</table>")
        layout.addWidget(table)
        layout.addStretch()

    def show_session(self, session: Session) -> None:
        """Show the doubt and the progress of a session."""
        self.progress.setVisible(bool(session.queue))
        self.progress.setMaximum(max(1, len(session.queue)))
        self.progress.setValue(len(session.answers))
        self.question.setText(_question(session))

    def say(self, message: str) -> None:
        """Show a message of one or more lines."""
        self.message.setText("<br>".join(map(escape, message.splitlines())))


def _question(session: Session) -> str:
    """The doubt that is shown, as rich text."""
    doubt = session.doubt
    if doubt is None:
        return "Press <b>N</b> for the first doubt." if session.queue else "No queue of doubts beside this trace."
    answer = session.answers.get(doubt.rank, "open")
    facts = f"doubt {doubt.rank} of {len(session.queue)} · branch {doubt.branch} · {answer}"
    words = escape(doubt.words)
    return f"<big><b>{words}</b></big><br>confidence <b>{doubt.confidence:.0%}</b><br><small>{facts}</small>"


def _label() -> QLabel:
    label = QLabel()
    label.setWordWrap(True)
    label.setTextFormat(Qt.TextFormat.RichText)
    return label
