"""A first look: settings, a registry, pods, and a run that sends them to the webhook."""
