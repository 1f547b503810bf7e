"""Where approvals come from: one registry per module."""
