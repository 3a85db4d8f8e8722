"""The routes: each takes a body to a job, by way of `Prompts`, and names the form its answer goes out in."""
