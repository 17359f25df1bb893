"""Sources of audio: a folder, a hub, YouTube."""
