"""Callbacks that plug into plain ``model.fit``: gradients per layer and depth step, pictures of filters."""
