"""Networks on devices: export, quantization, and running exported files."""
