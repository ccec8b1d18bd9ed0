"""Objects out of masks: found, measured, counted, drawn. ``podium.config_objects`` has the settings."""
