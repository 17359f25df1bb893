"""Training objectives: one module per kind of loss.

To add a loss, subclass `base.Objective` in a module here, and pass it to `TrainingRun.fit` in a recipe.
"""
