"""Run the notebooks and write their outputs into them: `python notebooks/execute.py [FILE...]`.

Without what libraries log: it differs from machine to machine and tells the reader nothing.
"""

import os
import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient

FOLDER = Path(__file__).parent

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
for path in map(Path, sys.argv[1:] or sorted(FOLDER.glob("*.ipynb"))):
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(notebook, timeout=600, resources={"metadata": {"path": FOLDER}})
    client.execute()
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)  # when each cell was run
        if cell.cell_type == "code":
            logs = [output for output in cell.outputs if output.get("name") == "stderr"]
            cell.outputs = [output for output in cell.outputs if output not in logs]
    nbformat.write(notebook, path)
    print(path)
