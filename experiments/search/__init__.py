"""`deeplstm search`: keras-tuner's searches over runs, safe against any interruption."""
