"""LSTM along depth, for Keras 3."""
