"""What the console's pages of all apps are built from: forms, lists, panels, widgets."""
