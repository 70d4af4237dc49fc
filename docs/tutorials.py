"""The notebooks as pages of the site, with the outputs stored in them: a hook of mkdocs."""

import pathlib

from mkdocs.structure.files import File
from nbconvert import MarkdownExporter

NOTEBOOKS = pathlib.Path(__file__).resolve().parent.parent / "notebooks"


def on_files(files, config):
    """Add a page for each notebook, and its pictures."""
    for path in sorted(NOTEBOOKS.glob("*.ipynb")):
        resources = {"output_files_dir": path.stem}
        text, resources = MarkdownExporter().from_filename(path, resources)
        text = text.replace("](../docs/", "](../")
        files.append(File.generated(config, f"tutorials/{path.stem}.md", content=text))
        for name, data in resources["outputs"].items():
            files.append(File.generated(config, f"tutorials/{name}", content=data))
    return files
