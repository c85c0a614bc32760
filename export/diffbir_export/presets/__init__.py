"""Official architecture sizes, one YAML file per network, in the form `config.py` reads."""
