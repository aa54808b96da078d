"""The dashboards as static pages, for a look at them where no Grafana is at hand.

Drawn from the JSON in the repository, with the same queries, asked of a Prometheus.
Only what the dashboards use of Grafana is drawn, and roughly as Grafana would.
"""
