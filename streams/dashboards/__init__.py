"""Dashboards: the same panels for Grafana and for a page that needs no Grafana."""
