"""Training of one network.

`run` is what recipes use; `objectives/` holds the losses, `loop` the steps, `feed` the batches.
"""
