"""Starting and keeping the processes of an installation: web, live, worker, and the embedded PostgreSQL."""
