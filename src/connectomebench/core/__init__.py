"""Types shared by every step: tasks, species, sites, geometry, sources, corrections and cuts."""
