"""Which targets answer, in which order? Pure; never tries one."""
