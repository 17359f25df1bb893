"""Foundation of all stages: errors, atomic files, resumable state, processes, devices, ranks."""
