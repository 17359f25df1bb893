"""Network architectures, layers, and model files."""

from audionas.models.cnn10 import Cnn10

__all__ = ["Cnn10"]
