"""What a search shows in the terminal: a live table, or a line for each trial that has ended."""

import time
from contextlib import ExitStack

from keras_deeplstm.experiments.search import results
from keras_deeplstm.experiments.search.config import SearchConfig
from keras_deeplstm.experiments.search.trials import Trial, ended

# Heads that are wider than the numbers below them; a search has ten columns, a terminal 80.
HEADS = {
    "dropout": "drop",
    "parameters": "params",
    "gradient_ratio": "first/last\ngradient",
    "seconds": "s",
}


class View(ExitStack):
    """Shows the trials of a search as they come. As a context manager it ends its live table."""

    def __init__(self, config: SearchConfig):
        # Imported here, so that `deeplstm --help` need not wait for it.
        from rich.console import Console
        from rich.live import Live

        super().__init__()
        self._config = config
        self._console = Console()
        self._live = None
        if self._console.file.isatty():  # `is_terminal` believes FORCE_COLOR
            self._live = self.enter_context(Live(console=self._console, auto_refresh=False))
        self._shown: set[int] | None = None  # trials that have ended
        self._times: list[float] = []  # when the first trial began here, and when each has ended

    def say(self, line: str) -> None:
        """Print a line, above the table if there is one."""
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)

    def update(self, found: list[Trial]) -> None:
        """Show what has changed."""
        done = ended(found)
        if self._shown is None:
            self._shown = {trial.number for trial in done}
            counts = {"done": len(done), "begun": len(found) - len(done)}
            known = ", ".join(f"{count} {what}" for what, count in counts.items() if count)
            self.say(f"{self._config.trials or 'all'} trials" + (f" ({known})" if known else ""))
        if not self._times and len(found) > len(self._shown):
            self._times.append(time.monotonic())
        for trial in done:
            if trial.number not in self._shown:
                self._shown.add(trial.number)
                self._times.append(time.monotonic())
                # In the table there is no room for a long reason.
                if self._live is None or trial.state != "finished":
                    self.say(results.trial_line(trial, self._config))
        if self._live is not None:
            self._live.update(self._table(found), refresh=True)

    def say_pace(self) -> None:
        """Print how fast trials have ended here, if any has."""
        count = len(self._times) - 1
        if count > 0:
            seconds = self._times[-1] - self._times[0]
            rate = 60 * count / max(seconds, 1e-9)
            self.say(f"{count} trials in {seconds:.0f} s without start-up, {rate:.1f} per minute")

    def _table(self, found):
        from rich.table import Table
        from rich.text import Text

        config = self._config
        table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), expand=True)
        names = [results.short(name) for name in config.searched]
        numbers = results.columns(config)
        for name in ("trial", *names, *numbers):
            head = HEADS.get(name, name.replace("_", "\n"))
            table.add_column(head, justify="right", no_wrap=True)
        table.add_column("", no_wrap=True, overflow="ellipsis", ratio=1)
        best = results.best(found, config)
        for trial in found[-(self._console.height - 4) :]:
            values = results.value_texts(trial, config).values()
            cells = [str(trial.number), *values]
            if trial.state == "finished":
                cells += results.texts(trial, config).values()
                note = "best" if trial in best else ""
            else:
                cells += [""] * len(numbers)
                note = f"{trial.state}: {trial.result.reason}" if trial.outcome else "running"
            style = "bold green" if trial in best else ""
            table.add_row(*cells, Text(note), style=style)  # a reason may look like markup
        return table
