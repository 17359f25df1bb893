"""From lists of clips to stores of features: corpora, sources, ledgers, shards, coverage."""
