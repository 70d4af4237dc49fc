"""`python -m keras_deeplstm` is the command `deeplstm`."""

import sys

from keras_deeplstm.experiments.cli import main

if __name__ == "__main__":
    sys.argv[0] = "deeplstm"  # the name by which its workers know that Keras can wait
    sys.exit(main())
