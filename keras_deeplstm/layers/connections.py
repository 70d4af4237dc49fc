"""The connections that a depth LSTM is compared with: how h of a step comes from h before it.

In all of them `branch` is what the step adds to the network, with its dropout; `norm` is its
normalization, the identity where it has none.
"""

from keras import ops


def pre(h, branch, norm):
    """h + branch(norm(h)): pre-activation residual networks (arXiv 1603.05027)."""
    return h + branch(norm(h))


def post(h, branch, norm):
    """norm(h + branch(h)): the first Transformer (arXiv 1706.03762, section 3.1)."""
    return norm(h + branch(h))


def deepnorm(h, branch, norm, alpha):
    """norm(alpha * h + branch(h)): DeepNorm (arXiv 2203.00555)."""
    return norm(alpha * h + branch(h))


def rezero(h, branch, norm, weight):
    """h + weight * branch(norm(h)), the weight 0 at first: ReZero (arXiv 2003.04887)."""
    return h + weight * branch(norm(h))


def scaled(h, branch, norm, shrink):
    """h + branch(norm(h) / sqrt(l)), given 1 / sqrt(l): LayerNorm Scaling (arXiv 2502.05795)."""
    return h + branch(norm(h) * shrink)


def highway(h, update, z):
    """T * update + (1 - T) * h with T = sigmoid(z): highway networks (arXiv 1505.00387, eq. 3)."""
    transform = ops.sigmoid(z)
    return transform * update + (1 - transform) * h
