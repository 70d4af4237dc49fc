"""Let griffe, which reads the docstrings for the site, know this project's way to write them."""

import re
import textwrap

import griffe


class Sections(griffe.Extension):
    """Rewrite what griffe would misread, in the docstring of each object."""

    def on_object(self, *, obj, **kwargs):
        """Call arguments are a section, a doctest needs no indent, a result needs no name."""
        if obj.docstring is None or obj.is_alias:
            return
        text = obj.docstring.value
        text = re.sub(r"^Call arguments:$", "Other Parameters: Call arguments:", text, flags=re.M)
        text = re.sub(r"^Returns:\n((?:    .*\n?|\n)+)", _plain, text, flags=re.M)
        before, example, doctest = text.partition("\nExample:\n\n>>> ")
        if example:
            text = f"{before}\nExamples:\n    >>> " + doctest.replace("\n", "\n    ")
        obj.docstring.value = text


def _plain(section):
    return "**Returns:**\n\n" + textwrap.dedent(section[1])
