"""Options from the command line, YAML files and presets; errors in one line."""

from __future__ import annotations

import os
import signal
import sys
import time
from dataclasses import MISSING, dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest

from configs.config_2d import PREPARE_PRESETS, TRAIN_PRESETS
from configs.options import PrepareOptions, PrepareOptions3D, TraceOptions, TraceOptions3D, TrainOptions, TrainOptions3D
from lib.errors import UserError
from tools.cli import parse, run


@dataclass(frozen=True)
class Dish:
    """Cook something."""

    dataset: str = "custom"
    """What is on the plate."""
    salt: float = 1.0
    """Grams of salt."""
    spoons: int = 2
    """How many eat."""
    style: Literal["hot", "cold"] = "hot"
    """How to serve it."""
    sizes: tuple[int, int] = (64, 64)
    """Height and width of the plate."""
    guests: list[str] = field(default_factory=list)
    """Who comes."""
    book: Path | None = None
    """Where the recipe is."""
    lid: bool = False
    """Whether to cover it."""


PRESETS: dict[str, dict[str, Any]] = {"SOUP": {"salt": 3.0, "guests": ["01"]}}


def cook(*argv: str) -> Dish:
    return parse(Dish, list(argv), description="Cook.", presets=PRESETS)


def mistake(*argv: str) -> str:
    with pytest.raises(UserError) as caught:
        cook(*argv)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def write(path: Path, text: str) -> str:
    path.write_text(text)
    return str(path)


def test_defaults_and_values() -> None:
    assert cook() == Dish()
    given = cook("--salt", "2", "--spoons=3", "--style", "cold", "--book", "a/b.txt")
    assert given == Dish(salt=2.0, spoons=3, style="cold", book=Path("a/b.txt"))


@pytest.mark.parametrize("words", [["48", "32"], ["48,32"], ["[48,32]"], ["[48, 32]"]])
def test_tuple(words: list[str]) -> None:
    assert cook("--sizes", *words, "--salt", "2") == Dish(sizes=(48, 32), salt=2.0)


@pytest.mark.parametrize("words", [["01", "x"], ["01,x"], ['["01", "x"]']])
def test_list_of_words_keeps_leading_zeros(words: list[str]) -> None:
    assert cook("--guests", *words, "--lid") == Dish(guests=["01", "x"], lid=True)


@pytest.mark.parametrize(("words", "value"), [(["--lid"], True), (["--lid", "true"], True), (["--lid=false"], False)])
def test_flag(words: list[str], value: bool) -> None:
    assert cook(*words, "--salt", "2") == Dish(lid=value, salt=2.0)


def test_preset_gives_defaults() -> None:
    assert cook("--dataset", "SOUP") == Dish("SOUP", salt=3.0, guests=["01"])
    assert cook("--salt", "5", "--dataset=SOUP") == Dish("SOUP", salt=5.0, guests=["01"])
    assert cook("--dataset", "stew") == Dish("stew")


def test_preset_is_found_whatever_the_case() -> None:
    assert cook("--dataset", "soup") == Dish("SOUP", salt=3.0, guests=["01"])


def test_command_line_overrides_yaml_and_yaml_overrides_preset(tmp_path: Path) -> None:
    config = write(tmp_path / "c.yaml", "dataset: soup\nspoons: 7\nsizes: [16, 32]\n")
    assert cook("--config", config) == Dish("SOUP", salt=3.0, guests=["01"], spoons=7, sizes=(16, 32))
    config = write(tmp_path / "c.yaml", "dataset: SOUP\nsalt: 4\n")
    assert cook(f"--config={config}").salt == 4.0
    assert cook("--config", config, "--salt", "9").salt == 9.0


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--salz", "3"], "unknown option --salz; did you mean --salt?"),
        (["--salz=3"], "unknown option --salz; did you mean --salt?"),
        (["--sal", "3"], "unknown option --sal; did you mean --salt?"),
        (["--xyzzy"], "unknown option --xyzzy; see --help"),
        (["more"], "unexpected word 'more'"),
        (["--salt"], "--salt needs a value; see --help"),
        (["--salt", "much"], "--salt must be a number, got much"),
        (["--spoons", "1.5"], "--spoons must be a whole number, got 1.5"),
        (["--style", "lukewarm"], "--style must be hot or cold, got lukewarm"),
        (
            ["--sizes", "64"],
            "--sizes must be a whole number for each axis, such as 64 64 (in 3D 16 64 64), got [64]",
        ),
        (
            ["--sizes", "64", "x"],
            "--sizes must be a whole number for each axis, such as 64 64 (in 3D 16 64 64), got x",
        ),
        (["--lid=perhaps"], "--lid must be true or false, got perhaps"),
        (["--config", "/no/where.yaml"], "--config: File does not exist: '/no/where.yaml'"),
    ],
)
def test_mistakes(argv: list[str], said: str) -> None:
    assert mistake(*argv) == said


@dataclass(frozen=True)
class Order:
    """Order something."""

    what: Path
    """What to bring."""
    where: Path
    """Where to bring it."""
    name: str
    """Who pays."""
    tip: float | None = None
    """How much more to pay."""
    style: Literal["hot", "cold"] | None = None
    """How to bring it."""
    speed: float | Literal["auto"] | None = None
    """How soon."""


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        ([], "--what, --where and --name are missing; see --help"),
        (["--where", "here"], "--what and --name are missing; see --help"),
        (["--where", "here", "--what=soup"], "--name is missing; see --help"),
        (["--tip", "much"], "--tip must be a number, got much"),
        (["--style", "lukewarm"], "--style must be hot or cold, got lukewarm"),
        (["--speed", "soon"], "--speed must be a number or auto, got soon"),
    ],
)
def test_missing_and_optional_values(argv: list[str], said: str) -> None:
    with pytest.raises(UserError) as caught:
        parse(Order, argv, description="Order.")
    assert str(caught.value) == said


def test_required_options_can_be_in_yaml(tmp_path: Path) -> None:
    config = write(tmp_path / "c.yaml", "what: soup\nwhere: here\n")
    assert parse(Order, ["--config", config, "--name=me"], description="").what == Path("soup")
    with pytest.raises(UserError, match="--name is missing"):
        parse(Order, ["--config", config], description="")


def test_mistakes_in_yaml(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    assert mistake("--config", write(path, "salz: 3\n")) == "--config: unknown key salz; did you mean salt?"
    assert mistake("--config", write(path, "salt: much\n")) == "--salt must be a number, got much"
    assert "config" in mistake("--config", write(path, "salt: [\n"))
    path.write_bytes(b"salt: \xff3\n")
    assert mistake("--config", str(path)) == "--config: not a text file (UTF-8); give a YAML file"


@pytest.mark.parametrize(
    "options", [PrepareOptions, PrepareOptions3D, TrainOptions, TrainOptions3D, TraceOptions, TraceOptions3D]
)
def test_help_explains_every_option(options: type, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        parse(options, ["--help"], description="First line.\n\n    python x.py --out y", presets=PREPARE_PRESETS)
    assert left.value.code == 0
    said = capsys.readouterr().out
    assert "First line.\n\n    python x.py --out y" in said
    assert "<class" not in said
    blocks = said.split("\n  --")
    for name, entry in options.__dataclass_fields__.items():
        (block,) = (block for block in blocks if block.startswith((f"{name} ", f"{name}\n", f"{name},")))
        words = " ".join(block.split())
        required = entry.default is MISSING and entry.default_factory is MISSING
        # An option whose default is None shows no default.
        assert not [python for python in ("| null", "default: null", "None", "Optional") if python in words]
        assert ("default: " in words) == (entry.default is not None and not required)
        # The text is more than name, value and type.
        assert len(words.split("(type")[0].split()) > 2, words


def test_presets_are_valid_options() -> None:
    for options, presets in ((PrepareOptions, PREPARE_PRESETS), (TrainOptions, TRAIN_PRESETS)):
        for name, preset in presets.items():
            parsed = parse(options, ["--dataset", name], description="", presets=presets)
            for key, value in preset.items():
                assert getattr(parsed, key) == value


def test_sigterm_lets_main_clean_up(tmp_path: Path) -> None:
    def main(argv: list[str] | None) -> None:
        half_done = tmp_path / "half"
        half_done.touch()
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(10)
        finally:
            half_done.unlink()

    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as left:
        run(main)
    assert left.value.code == 143
    assert not list(tmp_path.iterdir())
    assert signal.getsignal(signal.SIGTERM) == before


def leave(monkeypatch: pytest.MonkeyPatch, error: BaseException | None) -> int:
    def main(argv: list[str] | None) -> None:
        if error is not None:
            raise error

    monkeypatch.setattr(sys, "argv", ["x"])
    with pytest.raises(SystemExit) as left:
        run(main)
    return int(left.value.code or 0)


def test_exit_codes(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert leave(monkeypatch, None) == 0
    assert leave(monkeypatch, UserError("a.tif: broken; mend it")) == 2
    assert capsys.readouterr().err == "error: a.tif: broken; mend it\n"
    assert leave(monkeypatch, MemoryError("Unable to allocate 768. GiB")) == 2
    assert capsys.readouterr().err == "error: not enough memory (Unable to allocate 768. GiB); give less at a time\n"
    assert leave(monkeypatch, KeyboardInterrupt()) == 130
    with pytest.raises(ZeroDivisionError):
        leave(monkeypatch, ZeroDivisionError())
