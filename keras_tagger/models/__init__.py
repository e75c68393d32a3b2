"""The Keras model that joins spectrogram, front-end, encoder and head."""
