"""Processes beside this one, signals, and a quiet start."""
