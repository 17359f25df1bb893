"""Stages of once-for-all, from the teacher to the release."""
