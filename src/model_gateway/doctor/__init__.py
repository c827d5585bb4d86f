"""Doctor: what of a gateway's surroundings would make it fail, and what to do."""
