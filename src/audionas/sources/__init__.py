"""Where AudioSet's audio comes from: a local copy, a mirror on the Hugging Face hub, YouTube."""
