"""Prefect flows: only order, retries, schedules and artifacts. The only room that imports Prefect."""
