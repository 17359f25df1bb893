"""The weight-sharing supernet: elastic layers, extraction, calibration, scoring and training."""
