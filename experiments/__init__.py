"""Tasks, runs, studies and reports, and the command ``deeplstm``."""
