"""A search space unrelated to CNN10: words of four letters."""

from itertools import product

import numpy as np

from audionas.search.space import Costs, FiniteSpace


class Words(FiniteSpace[str]):
    """Words of `length` letters a to d; later letters cost more."""

    letters = "abcd"

    def __init__(self, length: int = 4):
        super().__init__("words", map("".join, product(self.letters, repeat=length)))

    def mutate(self, configuration: str, probability: float, generator: np.random.Generator) -> str:
        drawn = generator.choice(list(self.letters), len(configuration))
        changed = generator.random(len(configuration)) < probability
        return "".join(np.where(changed, drawn, list(configuration)))

    def cross(self, first: str, second: str, generator: np.random.Generator) -> str:
        return "".join(np.where(generator.random(len(first)) < 0.5, list(first), list(second)))

    def encode(self, configuration: str) -> np.ndarray:
        return np.array([self.letters.index(letter) for letter in configuration], float)

    def describe(self, configuration: str) -> dict[str, str]:
        return {"word": configuration}

    def costs(self, configuration: str) -> Costs:
        params = int(self.encode(configuration).sum())
        return Costs(params, 10 * params)
