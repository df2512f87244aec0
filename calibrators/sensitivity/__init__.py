"""Which heads, layers and blocks bend the lanes when they are quantised."""
