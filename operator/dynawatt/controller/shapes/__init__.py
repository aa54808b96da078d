"""Further shapes of a user's Deployment: what their Deployments look like, and which cannot be had."""
