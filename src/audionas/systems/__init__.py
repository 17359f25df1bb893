"""One folder a system: all that belongs to one paper and to nothing else. No system imports another."""
