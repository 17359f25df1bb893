"""Stages from the lists of clips to features, which all systems share, and what loads their outputs."""
