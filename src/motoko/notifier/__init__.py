"""The notifier: a daemon that sends notifications of a workflow's events."""
