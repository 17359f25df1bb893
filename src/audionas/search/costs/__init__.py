"""Analytic costs of networks: parameters, multiply-adds and memory."""
