"""Export to runtimes, one module for each."""
