"""Stages of the system `once_for_all`, from the teacher to the release."""
