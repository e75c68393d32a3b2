"""`python -m keras_tagger` is `keras-tagger`."""

from keras_tagger.cli.main import main

if __name__ == "__main__":
    main()
