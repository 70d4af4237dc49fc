"""Equations of the pages as MathML, which browsers draw without a script or a network.

They stand in fenced blocks `math`, LaTeX that GitHub draws as well; mkdocs.yml names this hook.
"""

import re
import textwrap

from latex2mathml.converter import convert

BLOCK = re.compile(r"^( *)```math\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)


def on_page_markdown(markdown, **_):
    """Replace the blocks of a page."""
    return BLOCK.sub(_as_mathml, markdown)


def _as_mathml(match):
    indent, latex = match.groups()
    latex = re.sub(r"\\(begin|end)\{aligned\}\n", "", textwrap.dedent(latex))
    lines = latex.strip().split("\\\\\n")
    drawn = [convert(line.replace("&", " ").strip(), display="block") for line in lines]
    # One element for each line: they can be wider than a phone, and are scrolled.
    return f'{indent}<div class="equations">{"".join(drawn)}</div>'
