"""Costs of networks, counted by arithmetic: parameters and multiply-adds."""
