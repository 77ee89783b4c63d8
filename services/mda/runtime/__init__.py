"""What every service stands on: settings, life cycle, interceptors, errors, telemetry."""
