"""Deployment: networks for a budget, and files for other runtimes."""
