"""Sources of audio: a folder, a mirror on the Hugging Face hub, YouTube."""
