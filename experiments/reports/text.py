"""What a report shows of character language models: curves, and what they have written."""

from keras_deeplstm.experiments.reports import drawing, rates, states
from keras_deeplstm.experiments.reports.drawing import Section
from keras_deeplstm.experiments.runs import Run
from keras_deeplstm.experiments.runs.groups import Group
from keras_deeplstm.experiments.studies.study import by_subject

LEARNING = (("val_bits", "validation bits per symbol"), ("bits", "training bits per symbol"))


def sections(groups: list[Group], unfinished: list[Run]) -> list[Section]:
    """Curves of all runs that have any, and texts by the first run of each model."""
    rated = rates.section(groups)
    groups = rates.fewer(groups)
    panels = drawing.panels_of(groups)
    gradients = states.section(
        panels, drawing.colors_of(groups), "8 sequences of the validation text"
    )
    groups = drawing.with_unfinished(groups, unfinished)
    learning = Section(
        "Learning",
        "Bits per symbol against passes over the training text: on the validation text, and of the "
        "training steps in between, dropout included. Lines are means over the runs of a model, "
        "finished or not, bands their range.",
        drawing.curves_of(_panels(groups), LEARNING if _evaluated_twice(groups) else LEARNING[1:]),
    )
    samples = Section(
        "Samples",
        "What the first run of each model wrote after its first evaluation, and after its last "
        "one. All samples are in samples.txt of a run.",
        [],
        [written for group in groups for written in _samples(group)],
    )
    return drawing.shown([learning, rated, gradients, samples])


def _evaluated_twice(groups):
    """Whether a run has more than one evaluation: a single one is a point, and in the table."""
    found = [run.metrics for group in groups for run in group.runs]
    return any("val_bits" in frame and frame["val_bits"].count() > 1 for frame in found)


def _panels(groups):
    """The groups of each text; of each depth, too, if there are too many for one picture."""
    found = []
    for subject, members in by_subject(groups):
        few = len(members) <= drawing.LINES
        found += [(subject, members)] if few else drawing.panels_of(members)
    return found


def _samples(group):
    """The first and the last sample of the first run, each with what it is."""
    try:
        text = (group.runs[0].folder / "samples.txt").read_text(encoding="utf-8")
    except (OSError, ValueError):  # absent, or damaged
        return []
    # No sample begins a line so but by chance, and then one is shown in two parts.
    samples = text.split("--- step ")[1:]
    chosen = [sample.partition("\n") for sample in samples[:1] + samples[1:][-1:]]
    what = f"{group.config.subject}: {group.name}, step"
    return [(f"{what} {heading}", body.rstrip("\n")) for heading, _, body in chosen]
