"""What `make release` does: builds wheel and sdist, holds them to rules, and tries them on the Pythons here."""
