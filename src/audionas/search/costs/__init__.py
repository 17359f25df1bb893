"""Analytic costs of networks: parameters and multiply-adds."""
