"""Alerts to people: the terminal, signed webhooks, chat and mail."""
