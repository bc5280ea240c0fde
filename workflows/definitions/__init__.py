"""What a workflow is made of: its tree of steps, checks, versions, import and export."""
