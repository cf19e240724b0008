"""Where the time of a method goes: operations, phases, and the limit of the machine."""
