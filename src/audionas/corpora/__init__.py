"""Where clips come from: one module for each corpus."""
