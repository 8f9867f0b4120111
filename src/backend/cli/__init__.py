"""The command line. Its modules import typer at the top and everything heavy inside a command."""
