"""Scripts that the environments in .deploy/ run; they import nothing of this package."""
