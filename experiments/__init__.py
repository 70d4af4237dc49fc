"""Tasks, runs, studies and reports: the experiments behind the package, and the command ``deeplstm``."""
