"""Data stages that all systems share, from clip lists to features, and loaders of their outputs."""
