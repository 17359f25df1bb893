"""Training: the loop, its objectives, augmentation, batches and checkpoints."""
