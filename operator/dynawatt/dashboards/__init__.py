"""Grafana dashboards, Prometheus rules and the metrics reference, generated from code.

``python -m dynawatt.dashboards --write`` makes ``dashboards/`` and ``docs/metrics.md``,
``--check`` fails when they differ. What is generated is plain files; this package
is for those who change it, and needs the development dependencies.
"""
