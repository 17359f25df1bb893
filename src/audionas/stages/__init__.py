"""One small module for each stage of the DAG: configuration in, library calls, declared files out."""
