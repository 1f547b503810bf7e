"""Dashboards for Grafana, and the rules as objects of the Prometheus operator, written from code."""
