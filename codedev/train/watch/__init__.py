"""Looking at a run: before it (dryrun, memory), while it goes on (metrics, follow, page, loggers), when something happens to it (policy,
signals, disk), and afterwards (status, explain)."""
