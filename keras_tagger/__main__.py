"""`python -m keras_tagger` is `keras-tagger`."""

import sys

from keras_tagger.cli import main

if __name__ == "__main__":
    sys.exit(main())
