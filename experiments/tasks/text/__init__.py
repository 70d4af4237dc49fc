"""`deeplstm train-text` and `deeplstm sample`: character language models of any text."""
