"""What every stage stands on: errors, atomic files, resumable state, processes, devices, ranks."""
