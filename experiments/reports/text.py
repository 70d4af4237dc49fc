"""What a report shows of character language models: curves, and what they have written."""

import itertools

from keras_deeplstm.experiments.reports.drawing import (
    Section,
    colors_of,
    curves,
    depth_styles,
    with_unfinished,
)
from keras_deeplstm.experiments.runs import Run
from keras_deeplstm.experiments.runs.groups import Group


def sections(groups: list[Group], unfinished: list[Run]) -> list[Section]:
    """Curves of all runs that have any, and texts by the first run of each model."""
    groups = with_unfinished(groups, unfinished)
    if not groups:
        return []
    found = [
        Section(
            "Learning",
            "Bits per symbol against passes over the training text: on the validation text, and of "
            "the training steps in between, dropout included. Lines are means over the runs of a "
            "model, finished or not, bands their range.",
            [
                _learning(subject, list(members))
                for subject, members in itertools.groupby(groups, lambda g: g.config.subject)
            ],
        ),
        Section(
            "Samples",
            "What the first run of each model wrote after its first evaluation, and after its last "
            "one. All samples are in samples.txt of a run.",
            [],
            [written for group in groups for written in _samples(group)],
        ),
    ]
    return [section for section in found if section.rows or section.writings]


def _learning(subject, groups):
    colors, styles = colors_of(groups), depth_styles(groups)
    return [
        curves(subject, groups, colors, column, f"{what} bits per symbol", styles=styles)
        for column, what in (("val_bits", "validation"), ("bits", "training"))
    ]


def _samples(group):
    """The first and the last sample of the first run, each with what it is."""
    try:
        text = (group.runs[0].folder / "samples.txt").read_text(encoding="utf-8")
    except (OSError, ValueError):  # absent, or damaged
        return []
    # No sample begins a line so but by chance, and then one is shown in two parts.
    samples = text.split("--- step ")[1:]
    chosen = samples[:1] + samples[1:][-1:]
    found = []
    for sample in chosen:
        heading, _, body = sample.partition("\n")
        what = f"{group.config.subject}: {group.name}, step {heading}"
        found.append((what, body.rstrip("\n")))
    return found
