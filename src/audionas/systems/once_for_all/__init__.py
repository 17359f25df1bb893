"""Once-for-all acoustic event classification (OFA-AEC): one supernet, a network for every budget."""
