"""Training of one network.

Recipes use `run`. `objectives/` holds the losses, `loop` the optimiser steps and `feed` the batches.
"""
