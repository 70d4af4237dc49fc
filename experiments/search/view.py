"""What a search shows in the terminal: a live table, or a line for each trial that has ended."""

import time

from keras_deeplstm.experiments.search.config import SearchConfig
from keras_deeplstm.experiments.search.records import Record
from keras_deeplstm.experiments.search.results import (
    SHORT,
    ranked,
    result_text,
    score_text,
    title,
    value_text,
)
from keras_deeplstm.experiments.words import ratio_text


class View:
    """Shows the records of a search as they come. Use it as a context manager."""

    def __init__(self, config: SearchConfig):
        # Imported here, so that `deeplstm --help` need not wait for it.
        from rich.console import Console
        from rich.live import Live

        self._config = config
        self._console = Console()
        self._live = None
        if self._console.file.isatty():  # `is_terminal` believes FORCE_COLOR
            self._live = Live(console=self._console, auto_refresh=False)
        self._shown: set[str] | None = None  # trials that have ended
        self._before = 0  # how many of them when this began
        self._began: float | None = None  # when the first trial began here
        self._last: float | None = None  # when the last one ended

    def __enter__(self):
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *error):
        if self._live is not None:
            self._live.stop()

    def say(self, line: str) -> None:
        """Print a line, above the table if there is one."""
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)

    def update(self, found: list[Record]) -> None:
        """Show what has changed."""
        if self._shown is None:
            done = [record for record in found if record.state != "running"]
            self._shown = {record.trial for record in done}
            self._before = len(done)
            planned = self._config.trials or "all"
            words = [f"{len(done)} done"] if done else []
            words += [f"{len(found) - len(done)} begun"] if len(found) > len(done) else []
            self.say(f"{planned} trials" + (f" ({', '.join(words)})" if words else ""))
        if self._began is None and len(found) > self._before:
            self._began = time.monotonic()
        ended = [record for record in found if record.state != "running"]
        for record in sorted(ended, key=lambda record: record.end):
            if record.trial not in self._shown:
                self._shown.add(record.trial)
                self._last = time.monotonic()
                # In the table there is no room for a long reason.
                if self._live is None or record.state != "finished":
                    self.say(f"{title(record, self._config)}: {result_text(record, self._config)}")
        if self._live is not None:
            self._live.update(self._table(found), refresh=True)

    @property
    def pace(self) -> str:
        """How fast trials have ended here, or "" if none has."""
        if self._shown is None or self._began is None or self._last is None:
            return ""
        count, seconds = len(self._shown) - self._before, self._last - self._began
        return (
            f"{count} trials in {seconds:.0f} s without start-up, "
            f"{60 * count / max(seconds, 1e-9):.1f} per minute"
        )

    def _table(self, found):
        from rich.table import Table
        from rich.text import Text

        table = Table(box=None, pad_edge=False)
        ratio = "first/last gradient"
        names = [SHORT.get(name, name) for name in self._config.searched]
        for name in ("trial", *names, self._config.objective, "parameters", ratio, "seconds"):
            table.add_column(name, justify="right")
        table.add_column("")
        winner = next(iter(ranked(found, self._config)), None)
        for record in found[-(self._console.height - 4) :]:
            outcome = record.outcome
            cells = [str(int(record.trial))]
            cells += [value_text(record.values.get(name)) for name in self._config.searched]
            note = "running" if outcome is None else ""
            if record.state == "finished":
                cells += [score_text(outcome.score, self._config), f"{outcome.parameters:,}"]
                cells += [ratio_text(outcome.gradient_ratio), f"{outcome.seconds:.0f}"]
            else:
                cells += [""] * 4
                note = f"{record.state}: {outcome.reason}" if outcome else "running"
            note, style = ("best", "bold green") if record is winner else (note, "")
            table.add_row(*cells, Text(note), style=style)  # a reason may look like markup
        return table
