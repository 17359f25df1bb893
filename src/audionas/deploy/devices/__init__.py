"""Devices: measured ones from CSV files, and estimated microcontrollers."""
