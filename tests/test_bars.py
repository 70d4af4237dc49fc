"""The bars of the terminal, drawn into a text of 60 columns."""

import io

from rich.console import Console

from keras_deeplstm.experiments import bars


def terminal(monkeypatch):
    """Standard output is a terminal of 60 columns, whose text is returned."""
    text = io.StringIO()
    text.isatty = lambda: True
    console = Console(file=text, force_terminal=True, width=60, _environ={})
    monkeypatch.setattr("rich.progress.get_console", lambda: console)
    monkeypatch.setattr("sys.stdout", text)
    return text


def test_an_epoch(monkeypatch):
    screen = terminal(monkeypatch)
    with bars.epoch_bar() as show:
        show(1, 4, 0.5)
        show(3, 4, 0.25)
        show(2, 4, 1 / 3)  # of the next epoch
    assert "step 2 of 4, loss 0.3333" in screen.getvalue()
    assert screen.getvalue().rindex("left") < screen.getvalue().rindex("step 2 of 4")


def test_a_title_that_is_too_long_loses_its_end():
    bar, drawn = bars.progress(), io.StringIO()
    bar.add_task("a model " + "of many words " * 9, total=1)
    Console(file=drawn, width=60).print(bar.get_renderable())
    (line,) = drawn.getvalue().splitlines()
    assert len(line) == 60 and line.startswith("-:--:-- left") and line.endswith("…")


def test_no_bar_where_there_is_no_terminal(monkeypatch):
    monkeypatch.setattr("sys.stdout", io.StringIO())
    with bars.epoch_bar() as show:
        assert show is None
    assert bars.progress().disable
