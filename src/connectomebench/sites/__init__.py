"""Find candidate places, label them and match controls."""
