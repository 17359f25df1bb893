"""Search spaces and the search for the best network within a budget. Nothing here needs PyTorch."""
