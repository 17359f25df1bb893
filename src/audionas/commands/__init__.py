"""Commands that need more than a few lines; `audionas.cli` has their grammar."""
