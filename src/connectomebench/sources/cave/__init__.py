"""Source `cave`: corrections from the edit history of a CAVE server, data through cloud-volume."""
