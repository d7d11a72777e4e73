"""Reports on one image: pictures, panels, charts and tables."""
