"""Layers in which the depth of a network is an LSTM, and blocks to compare them with."""

from keras_deeplstm.layers.depth_lstm import DepthLSTM
from keras_deeplstm.layers.feedforward import DenseStack, HighwayBlock
from keras_deeplstm.layers.grid_lstm import GridLSTM2D
from keras_deeplstm.layers.grid_lstm_3d import GridLSTM3D
from keras_deeplstm.layers.position_embedding import PositionEmbedding
from keras_deeplstm.layers.residual_block import ResidualBlock
from keras_deeplstm.layers.skip_connections import Highway, Residual
from keras_deeplstm.layers.unfolded_lstm import UnfoldedLSTMBlock

__all__ = [
    "DenseStack",
    "DepthLSTM",
    "GridLSTM2D",
    "GridLSTM3D",
    "Highway",
    "HighwayBlock",
    "PositionEmbedding",
    "Residual",
    "ResidualBlock",
    "UnfoldedLSTMBlock",
]
