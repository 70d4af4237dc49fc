"""`python -m keras_deeplstm` is the command `deeplstm`."""

import sys

from keras_deeplstm.experiments.cli import main

if __name__ == "__main__":
    sys.exit(main())
