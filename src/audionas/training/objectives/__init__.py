"""What a training step minimises: one module for each kind of loss, one short class for each recipe.

To add a loss, subclass `base.Objective` in a module here, and pass it to `TrainingRun.fit` in a recipe.
"""
