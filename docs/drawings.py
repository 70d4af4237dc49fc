"""Draw how the layers are wired, for docs/layers.md.

Command: `python docs/drawings.py docs/drawings`. The drawings are narrow and their text is large:
they can be read on a phone.
"""

import pathlib
import sys

import matplotlib.pyplot as plt
from matplotlib.patches import Circle, FancyArrowPatch, FancyBboxPatch, PathPatch
from matplotlib.path import Path

HIDDEN, MEMORY, INPUT = "#1d4ed8", "#c2410c", "#475569"
INK, EDGE, FILL, GATE = "#0f172a", "#94a3b8", "#f1f5f9", "#e0e7ff"
UNIT = 0.5  # inches
HALO, LINES, BOXES = 1, 2, 3  # what lies above what


class Drawing:
    """A sheet of `width` x `height` units with the few shapes that wiring needs."""

    def __init__(self, width, height):
        self.figure = plt.figure(figsize=(width * UNIT, height * UNIT))
        self.ax = self.figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(0, height))
        self.ax.axis("off")

    def text(self, x, y, text, color=INK, size=10, **kwargs):
        """Text, by default centred."""
        kwargs = {"ha": "center", "va": "center", **kwargs}
        self.ax.text(x, y, text, color=color, fontsize=size, zorder=BOXES, **kwargs)

    def box(self, x, y, text="", width=1.1, height=0.62, fill=FILL, optional=False, size=10):
        """A rounded box around its centre; optional ones are dashed."""
        corner = (x - width / 2, y - height / 2)
        style = {"edgecolor": EDGE, "linewidth": 1, "linestyle": "--" if optional else "-"}
        fill = "white" if optional else fill
        shape = "round,pad=0,rounding_size=0.14"
        box = FancyBboxPatch(corner, width, height, shape, facecolor=fill, zorder=BOXES, **style)
        self.ax.add_patch(box)
        self.text(x, y, text, size=size)

    def operation(self, x, y, sign, color=INK):
        """A circle with a sign: an operation element by element."""
        circle = Circle((x, y), 0.24, facecolor="white", edgecolor=color, zorder=BOXES)
        self.ax.add_patch(circle)
        self.text(x, y, sign, color=color, size=11)

    def dot(self, x, y, color):
        """Where a line branches."""
        self.ax.add_patch(Circle((x, y), 0.075, color=color, zorder=LINES))

    def line(self, points, color=INPUT, head=True, dashed=False):
        """A line along points with round corners; the memory cell's lines are thick."""
        width = 2.6 if color == MEMORY else 1.5
        path = _rounded(points)
        # A white halo shows that lines which cross do not meet.
        self.ax.add_patch(PathPatch(path, edgecolor="white", fill=False, lw=5, zorder=HALO))
        style = {"color": color, "linewidth": width, "linestyle": (0, (3, 2)) if dashed else "-"}
        if head:
            scale = 11 if color == MEMORY else 9
            arrow = f"-|>,head_length={0.45 * scale / 9},head_width={0.22 * scale / 9}"
            tip = {"arrowstyle": arrow, "mutation_scale": scale, "shrinkA": 0, "shrinkB": 0}
            patch = FancyArrowPatch(path=path, joinstyle="miter", zorder=LINES, **tip, **style)
        else:
            patch = PathPatch(path, fill=False, zorder=LINES, **style)
        self.ax.add_patch(patch)

    def legend(self, x, y, gap=2.7):
        """Which line is which."""
        for i, (color, name) in enumerate(((HIDDEN, "hidden state h"), (MEMORY, "memory cell c"))):
            left = x + i * gap
            self.line([(left, y), (left + 0.5, y)], color, head=False)
            self.text(left + 0.62, y, name, color, size=8.5, ha="left")

    def save(self, file):
        """Write an SVG that is the same, byte for byte, each time."""
        with plt.rc_context({"svg.hashsalt": "keras_deeplstm"}):
            self.figure.savefig(file, metadata={"Date": None})
        plt.close(self.figure)


def _rounded(points, radius=0.2):
    """A path along points, with round corners."""
    vertices, codes = [points[0]], [Path.MOVETO]
    for i in range(1, len(points) - 1):
        start = _towards(points[i], points[i - 1], radius)
        end = _towards(points[i], points[i + 1], radius)
        vertices += [start, points[i], end]
        codes += [Path.LINETO, Path.CURVE3, Path.CURVE3]
    return Path([*vertices, points[-1]], [*codes, Path.LINETO])


def _towards(point, other, distance):
    dx, dy = other[0] - point[0], other[1] - point[1]
    share = distance / max((dx**2 + dy**2) ** 0.5, 2 * distance)
    return point[0] + share * dx, point[1] + share * dy


def unfolded_step():
    """One depth step of `UnfoldedLSTMBlock`."""
    d = Drawing(8.8, 8.6)
    c, h, f, i, g, o = 1.2, 7.3, 2.7, 4.2, 5.7, 7.3
    d.line([(c, 0.75), (c, 3.16)], MEMORY)
    d.line([(c, 3.5), (c, 4.46)], MEMORY)
    d.line([(c, 4.8), (c, 7.9)], MEMORY)
    d.line([(h, 0.75), (h, 1.39)], HIDDEN)
    d.line([(4.2, 0.75), (4.2, 1.39)])
    d.text(c, 0.45, "$c_{l-1}$", MEMORY, 12)
    d.text(h, 0.45, "$h_{l-1}$", HIDDEN, 12)
    d.text(4.2, 0.45, "x, where it enters", INPUT, 9.5)
    d.box(5.0, 1.7, "$z_l$ = norm($h_{l-1}U_l$) + $b_l$ [+ norm($xW$)]", 6.6, 0.62, size=9.5)
    gates = (
        (f, r"$\sigma$", "forget"),
        (i, r"$\sigma$", "input"),
        (g, "tanh", "candidate"),
        (o, r"$\sigma$", "output"),
    )
    for x, function, name in gates:
        d.line([(x, 2.01), (x, 2.34)], INK)
        d.box(x, 2.62, function, 1.0, 0.56, GATE)
        d.text(x + 0.08, 3.06, name, INPUT, 7.5, ha="left")
    d.line([(f, 2.9), (f, 3.4), (c + 0.24, 3.4)], INK)
    d.operation(c, 3.4, "×", MEMORY)
    d.line([(i, 2.9), (i, 3.8), (4.71, 3.8)], INK)
    d.line([(g, 2.9), (g, 3.8), (5.19, 3.8)], INK)
    d.operation(4.95, 3.8, "×")
    d.line([(4.95, 4.04), (4.95, 4.7), (c + 0.24, 4.7)], INK)
    d.operation(c, 4.7, "+", MEMORY)
    d.dot(c, 5.7, MEMORY)
    d.line([(c, 5.7), (2.25, 5.7)], MEMORY)
    d.box(2.8, 5.7, "norm", optional=True)
    d.line([(3.35, 5.7), (4.4, 5.7)], INK)
    d.box(4.95, 5.7, "tanh")
    d.line([(5.5, 5.7), (h - 0.24, 5.7)], INK)
    d.line([(o, 2.9), (o, 5.46)], INK)
    d.operation(h, 5.7, "×", HIDDEN)
    d.line([(h, 5.94), (h, 6.49)], HIDDEN)
    d.box(h, 6.8, "dropout", 1.6, optional=True)
    d.line([(h, 7.11), (h, 7.9)], HIDDEN)
    d.text(c, 8.25, "$c_l$", MEMORY, 12)
    d.text(h, 8.25, "$h_l$", HIDDEN, 12)
    d.text(4.25, 7.9, "to the next depth step", INPUT, 9)
    return d


def unfolded_modes():
    """The three ways of the input into `UnfoldedLSTMBlock`."""
    d = Drawing(9.2, 8.9)
    rows = (2.65, 4.2, 6.6)
    for left, mode in ((0.15, "first"), (3.15, "every"), (6.15, "state")):
        centre, c, h = left + 1.5, left + 1.0, left + 2.0
        d.text(centre, 8.55, f'"{mode}"', size=10.5, family="monospace")
        bottom = 1.6
        if mode == "state":
            bottom = 1.56
            for x, name in ((c - 0.05, "$W_c$"), (h + 0.05, "$W_h$")):
                side = 0.25 if x > centre else -0.25
                d.line([(centre + side, 0.42), (x, 0.42), (x, 0.94)])
                d.box(x, 1.25, name, 0.8, size=9.5)
        else:
            for x, name, color in ((c, "$c_0$", MEMORY), (h, "$h_0$", HIDDEN)):
                d.text(x, 1.38, name, color)
        for y_from, y_to in zip((bottom, *rows[:2]), rows[:2], strict=False):
            for x, color in ((c, MEMORY), (h, HIDDEN)):
                start = y_from if y_from == bottom else y_from + 0.36
                d.line([(x, start), (x, y_to - 0.36)], color)
        for x, color in ((c, MEMORY), (h, HIDDEN)):
            d.line([(x, rows[1] + 0.36), (x, 5.0)], color, head=False)
            d.line([(x, 5.75), (x, rows[2] - 0.36)], color)
            d.text(x, 5.4, "⋮", color, 13)
        for y, name in zip(rows, ("step 1", "step 2", "step L"), strict=True):
            d.box(centre, y, name, 1.8, 0.72)
        d.line([(h, rows[2] + 0.36), (h, 7.55)], HIDDEN)
        d.line([(c, rows[2] + 0.36), (c, 7.55)], MEMORY)
        d.text(h, 7.85, "$h_L$", HIDDEN)
        d.text(c, 7.85, "$c_L$", MEMORY)
        d.text(centre, 0.42, "x", INPUT, 11.5)
        if mode == "first":
            d.line([(centre, 0.7), (centre, rows[0] - 0.36)])
        if mode == "every":
            bus = left + 0.22
            d.line([(centre - 0.25, 0.42), (bus, 0.42), (bus, rows[2]), (left + 0.6, rows[2])])
            for y in rows[:2]:
                d.dot(bus, y, INPUT)
                d.line([(bus, y), (left + 0.6, y)])
    return d


def grid():
    """`GridLSTM2D`: three times, three layers."""
    d = Drawing(9.2, 9.2)
    xs, ys, half, off = (2.6, 4.9, 7.2), (2.5, 4.5, 6.5), 0.55, 0.25
    for row, y in enumerate(ys):
        for column, x in enumerate(xs):
            d.box(x, y, width=1.1, height=1.1)
            left = 1.35 if column == 0 else xs[column - 1] + half
            d.line([(left, y + off), (x - half, y + off)], HIDDEN)
            d.line([(left, y - off), (x - half, y - off)], MEMORY)
            below = 1.45 if row == 0 else ys[row - 1] + half
            d.line([(x + off, below), (x + off, y - half)], HIDDEN)
            d.line([(x - off, below), (x - off, y - half)], MEMORY)
        d.line([(xs[-1] + half, y + off), (8.75, y + off)], HIDDEN)
        d.line([(xs[-1] + half, y - off), (8.75, y - off)], MEMORY)
        d.text(1.25, y + off, "$h_T$", HIDDEN, ha="right")
        d.text(1.25, y - off, "$c_T$", MEMORY, ha="right")
    for x, name in zip(xs, ("t − 1", "t", "t + 1"), strict=True):
        d.line([(x + off, ys[-1] + half), (x + off, 7.8)], HIDDEN)
        d.line([(x - off, ys[-1] + half), (x - off, 7.8)], MEMORY)
        d.text(x + off + 0.1, 8.05, "$h_D$", HIDDEN)
        d.text(x - off - 0.1, 8.05, "$c_D$", MEMORY)
        d.text(x + off + 0.1, 1.22, "$h_D$", HIDDEN)
        d.text(x - off - 0.1, 1.22, "$c_D$", MEMORY)
        d.text(x, 0.72, f"x[{name}]", INPUT, 9.5)
    for y, name in zip(ys, ("1", "2", "3"), strict=True):
        d.text(0.42, y, name, INPUT, 9.5)
    d.text(0.42, 7.35, "layer", INPUT, 9)
    d.text(1.35, 0.72, "input", INPUT, 9)
    d.text(1.2, 8.05, "output", INPUT, 9)
    d.legend(1.9, 8.8)
    d.text(4.9, 0.25, "time →     depth ↑", INPUT, 9)
    return d


def grid_cell():
    """One time and one layer of `GridLSTM2D`."""
    d = Drawing(9.2, 8.0)
    c_d, h_d, time, depth = 2.6, 3.5, (6.2, 2.9), (3.05, 5.6)
    d.line([(c_d, 0.75), (c_d, 5.14)], MEMORY)
    d.line([(h_d, 0.75), (h_d, 5.14)], HIDDEN)
    d.dot(h_d, 1.5, HIDDEN)
    d.line([(h_d, 1.5), (6.2, 1.5), (6.2, 2.35)], HIDDEN)
    d.line([(1.15, 2.6), (5.1, 2.6)], MEMORY)
    d.line([(1.15, 3.2), (5.1, 3.2)], HIDDEN)
    d.line([(7.3, 2.6), (8.3, 2.6)], MEMORY)
    d.line([(7.3, 3.2), (8.3, 3.2)], HIDDEN)
    d.dot(7.7, 3.2, HIDDEN)
    d.line([(7.7, 3.2), (7.7, 5.6), (4.2, 5.6)], HIDDEN)
    d.dot(1.45, 3.2, HIDDEN)
    d.line([(1.45, 3.2), (1.45, 5.6), (1.95, 5.6)], HIDDEN, dashed=True)
    d.line([(c_d, 6.05), (c_d, 7.1)], MEMORY)
    d.line([(h_d, 6.05), (h_d, 7.1)], HIDDEN)
    d.box(*time, "LSTM\nalong time", 2.2, 1.1, GATE)
    d.box(*depth, "LSTM\nalong depth", 2.2, 0.95, GATE)
    d.text(c_d, 0.42, "$c_D[t,l{-}1]$", MEMORY, 9.5, ha="right")
    d.text(h_d - 0.1, 0.42, "$h_D[t,l{-}1]$", HIDDEN, 9.5, ha="left")
    d.text(c_d, 7.4, "$c_D[t,l]$", MEMORY, 9.5, ha="right")
    d.text(h_d - 0.1, 7.4, "$h_D[t,l]$", HIDDEN, 9.5, ha="left")
    d.text(0.1, 2.25, "$c_T[t{-}1,l]$", MEMORY, 9.5, ha="left")
    d.text(0.1, 3.5, "$h_T[t{-}1,l]$", HIDDEN, 9.5, ha="left")
    d.text(8.35, 2.25, "$c_T[t,l]$", MEMORY, 9.5)
    d.text(8.45, 3.5, "$h_T[t,l]$", HIDDEN, 9.5)
    d.text(6.0, 5.92, 'priority="depth"', INK, 8.5, family="monospace")
    d.text(0.1, 5.95, "priority=\nNone", INK, 8.5, family="monospace", ha="left")
    return d


def feedforward():
    """One depth step of the blocks that the LSTM over depth is compared with."""
    d = Drawing(9.2, 8.6)
    names = ("DenseStack", "HighwayBlock", "ResidualBlock")
    for title, trunk, name in zip((1.6, 4.6, 7.6), (1.6, 4.6, 7.05), names, strict=True):
        d.text(title, 8.25, name, size=9.5, family="monospace")
        d.text(trunk, 0.4, "$h_{l-1}$", HIDDEN, 11.5)
        d.text(trunk, 7.7, "$h_l$", HIDDEN, 11.5)
    x = 1.6
    for y_from, y_to in ((0.7, 2.09), (2.71, 3.29), (3.91, 6.29), (6.91, 7.4)):
        d.line([(x, y_from), (x, y_to)], HIDDEN)
    d.box(x, 2.4, "$U_l$, $b_l$", 1.5)
    d.box(x, 3.6, "activation", 1.8, fill=GATE)
    d.box(x, 6.6, "dropout", 1.6, optional=True)

    x, carry, transform = 4.6, 3.45, 5.2
    d.line([(x, 0.7), (x, 1.25)], HIDDEN, head=False)
    d.line([(x, 1.25), (carry, 1.25), (carry, 4.46)], HIDDEN)
    d.line([(x, 1.25), (transform, 1.25), (transform, 2.09)], HIDDEN)
    d.dot(x, 1.25, HIDDEN)
    d.box(transform, 2.4, "$U_l$, $b_l$", 1.5)
    d.line([(4.75, 2.71), (4.75, 3.29)], INK)
    d.line([(5.65, 2.71), (5.65, 3.29)], INK)
    d.box(4.75, 3.6, r"$\sigma$", 0.7, fill=GATE)
    d.box(5.65, 3.6, "act.", 0.9, fill=GATE)
    d.dot(4.75, 4.25, INK)
    d.line([(4.75, 3.91), (4.75, 4.7), (5.41, 4.7)], INK)
    d.line([(4.75, 4.25), (4.1, 4.25), (4.1, 4.7), (carry + 0.24, 4.7)], INK)
    d.text(4.2, 4.02, "1 − T", INPUT, 7.5)
    d.text(4.98, 4.9, "T", INPUT, 8)
    d.line([(5.65, 3.91), (5.65, 4.46)], INK)
    d.operation(5.65, 4.7, "×")
    d.operation(carry, 4.7, "×", HIDDEN)
    d.line([(carry, 4.94), (carry, 5.5), (x - 0.24, 5.5)], HIDDEN)
    d.line([(5.65, 4.94), (5.65, 5.5), (x + 0.24, 5.5)], INK)
    d.operation(x, 5.5, "+", HIDDEN)
    d.line([(x, 5.74), (x, 6.29)], HIDDEN)
    d.box(x, 6.6, "dropout", 1.6, optional=True)
    d.line([(x, 6.91), (x, 7.4)], HIDDEN)

    x, trunk, branch = 6.3, 7.05, 8.1
    d.line([(trunk, 0.7), (trunk, 1.0)], HIDDEN, head=False)
    d.line([(trunk, 1.0), (x, 1.0), (x, 6.9), (trunk - 0.24, 6.9)], HIDDEN)
    d.line([(trunk, 1.0), (branch, 1.0), (branch, 1.44)], HIDDEN)
    d.dot(trunk, 1.0, HIDDEN)
    steps = ("norm", "$U_l$, $b_l$", "activation", "$V_l$, $d_l$", "dropout")
    for i, name in enumerate(steps):
        y = 1.75 + i
        fill = GATE if name == "activation" else FILL
        d.box(branch, y, name, 1.8, fill=fill, optional=name == "dropout")
        if i:
            d.line([(branch, y - 0.69), (branch, y - 0.31)], INK)
    d.line([(branch, 6.06), (branch, 6.9), (trunk + 0.24, 6.9)], INK)
    d.operation(trunk, 6.9, "+", HIDDEN)
    d.line([(trunk, 7.14), (trunk, 7.4)], HIDDEN)
    return d


if __name__ == "__main__":
    folder = pathlib.Path(sys.argv[1])
    for draw in (unfolded_step, unfolded_modes, grid, grid_cell, feedforward):
        draw().save(folder / f"{draw.__name__.replace('_', '-')}.svg")
