"""The daily run in Dagster: partitions, resources, assets, schedules, sensors. Each a sentence over a plain function."""
