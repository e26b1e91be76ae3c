"""Many lives of a whole system: no harm comes to money whatever goes wrong, and the machine that says so bites."""
