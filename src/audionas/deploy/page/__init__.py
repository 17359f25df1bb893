"""A page that runs a network in the browser: its source files and the program that joins them."""
