"""Run the notebooks and write their outputs into them: `python notebooks/execute.py [FILE...]`.

Without what libraries log, which differs from machine to machine and tells the reader nothing, and
with pictures in few colors, as published ones have.
"""

import base64
import os
import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient

from keras_deeplstm.experiments.reports.drawing import with_few_colors

FOLDER = Path(__file__).parent
PNG = "image/png"


def tidied(cell):
    """The outputs of a cell that stay, with smaller pictures."""
    outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
    for data in (output.data for output in outputs if PNG in output.get("data", {})):
        data[PNG] = base64.b64encode(with_few_colors(base64.b64decode(data[PNG]))).decode()
    return outputs


os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
for path in map(Path, sys.argv[1:] or sorted(FOLDER.glob("*.ipynb"))):
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(notebook, timeout=600, resources={"metadata": {"path": FOLDER}})
    client.execute()
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)  # when each cell was run
        if cell.cell_type == "code":
            cell.outputs = tidied(cell)
    nbformat.write(notebook, path)
    print(path)
