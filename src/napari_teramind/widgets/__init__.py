"""Qt panels: they show and emit, start jobs as processes of their own, and never compute."""
