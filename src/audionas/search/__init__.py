"""Search spaces and search strategies for networks within a budget. This package does not import PyTorch."""
