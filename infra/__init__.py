"""Where it runs: migrations, dashboards, images. Data; imports nothing."""
