"""What is noted of live traffic for learning: samples of prompts, and how a candidate would have routed."""
