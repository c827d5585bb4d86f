"""Is a weaker model's answer good enough to be given? Pure; asks nobody."""
