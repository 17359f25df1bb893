"""Once-for-all acoustic event classification (OFA-AEC): one supernet contains a network for every budget."""
